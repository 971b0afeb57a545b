"""Damaged vocabularies outside JSON, lines of text and SentencePiece models, and chat templates."""

from pathlib import Path

import pytest

from tests.damage.attempts import try_damage
from tests.damage.conftest import Worker
from tests.damage.mutations import damaged_bytes, damaged_lines, damaged_template
from tests.damage.soundness import Sound

LINES = [("sentences", "vocab.txt"), ("gpt2", "merges.txt")]
MODELS = [
    *(("t5-spiece", "spiece.model"), ("marian", "source.spm"), ("marian", "target.spm")),
    ("xlm-r", "sentencepiece.bpe.model"),
]


@pytest.mark.parametrize(("name", "file"), LINES)
def test_damaged_lines(worker: Worker, sound: dict[str, Sound], tmp_path: Path, name: str, file: str) -> None:
    try_damage(worker, sound[name], tmp_path, file, damaged_lines)


@pytest.mark.parametrize(("name", "file"), [*LINES, *MODELS])
def test_damaged_bytes(worker: Worker, sound: dict[str, Sound], tmp_path: Path, name: str, file: str) -> None:
    try_damage(worker, sound[name], tmp_path, file, damaged_bytes)


def test_damaged_template(worker: Worker, sound: dict[str, Sound], tmp_path: Path) -> None:
    try_damage(worker, sound["chat"], tmp_path, "chat_template.jinja", damaged_template)
