"""Damaged JSON: values of another type or size, keys missing, unknown or repeated, and bytes other than JSON."""

from pathlib import Path

import pytest

from tests.damage.attempts import try_damage
from tests.damage.conftest import Worker
from tests.damage.mutations import damaged_bytes, damaged_json
from tests.damage.soundness import Sound

FILES = [
    *((name, "config.json") for name in ("sentences", "labels", "llama", "gpt2", "t5", "marian", "bart", "xlm-r")),
    ("sentences", "tokenizer_config.json"),
    ("sentences", "special_tokens_map.json"),
    ("sentences", "added_tokens.json"),
    ("sentences", "modules.json"),
    ("sentences", "1_Pooling/config.json"),
    ("sentences", "2_Dense/config.json"),
    ("sentences", "sentence_bert_config.json"),
    ("sentences", "config_sentence_transformers.json"),
    ("adapter", "adapter/adapter_config.json"),
    ("adapter", "config.json"),
    *((name, "generation_config.json") for name in ("llama", "chat")),
    ("llama", "model.safetensors.index.json"),
    *((name, "tokenizer.json") for name in ("labels", "llama", "t5")),
    ("gpt2", "vocab.json"),
    ("gpt2", "tokenizer_config.json"),
    ("marian", "vocab.json"),
    ("marian", "tokenizer_config.json"),
    ("t5-spiece", "tokenizer_config.json"),
]


@pytest.mark.parametrize(("name", "file"), FILES)
def test_damaged_values(worker: Worker, sound: dict[str, Sound], tmp_path: Path, name: str, file: str) -> None:
    try_damage(worker, sound[name], tmp_path, file, damaged_json)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_damaged_bytes(worker: Worker, sound: dict[str, Sound], tmp_path: Path, name: str, file: str) -> None:
    try_damage(worker, sound[name], tmp_path, file, damaged_bytes)
