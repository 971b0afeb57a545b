"""Copy a sound checkpoint, and damage one of the files."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.damage.conftest import Worker
from tests.damage.soundness import Sound

Damage = Callable[[bytes], st.SearchStrategy[bytes]]


def put(path: Path, content: bytes) -> None:
    """Replace a file; a process with the old file mapped keeps the old content."""
    new = path.with_name(".new")
    new.write_bytes(content)
    new.replace(path)


def try_damage(worker: Worker, sound: Sound, folder: Path, file: str, damage: Damage) -> None:
    """Damage a file of a copy in many ways; each must be answered or refused."""
    copy = replace(sound, folder=shutil.copytree(sound.folder, folder / "copy"))
    path = copy.folder / file

    @settings(settings.get_profile("damage"))
    @given(damage(path.read_bytes()))
    def attempt(damaged: bytes) -> None:
        put(path, damaged)
        worker.attempt(copy)

    attempt()
