"""Damaged safetensors files, and pickles to convert."""

from pathlib import Path

import pytest

from tests.damage.attempts import Damage, try_damage
from tests.damage.conftest import Worker
from tests.damage.mutations import damaged_bytes, damaged_header
from tests.damage.soundness import Sound

SHARD = "model-00001-of-00002.safetensors"


@pytest.mark.parametrize("damage", [damaged_header, damaged_bytes])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        *((name, "model.safetensors") for name in ("labels", "t5")),
        ("llama", SHARD),
        ("sentences", "2_Dense/model.safetensors"),
        ("adapter", "adapter/adapter_model.safetensors"),
    ],
)
def test_damaged_weights(
    worker: Worker, sound: dict[str, Sound], tmp_path: Path, name: str, file: str, damage: Damage
) -> None:
    try_damage(worker, sound[name], tmp_path, file, damage)


def test_damaged_pickle(worker: Worker, sound: dict[str, Sound], tmp_path: Path) -> None:
    try_damage(worker, sound["pickle"], tmp_path, "pytorch_model.bin", damaged_bytes)
