"""Damaged safetensors files."""

from pathlib import Path

import pytest

from tests.damage.attempts import Damage, try_damage
from tests.damage.conftest import Worker
from tests.damage.mutations import damaged_bytes, damaged_header
from tests.damage.soundness import Sound

SHARD = "model-00001-of-00002.safetensors"


@pytest.mark.parametrize("damage", [damaged_header, damaged_bytes])
@pytest.mark.parametrize(
    ("name", "file"), [("labels", "model.safetensors"), ("llama", SHARD), ("t5", "model.safetensors")]
)
def test_damaged_weights(
    worker: Worker, sound: dict[str, Sound], tmp_path: Path, name: str, file: str, damage: Damage
) -> None:
    try_damage(worker, sound[name], tmp_path, file, damage)
