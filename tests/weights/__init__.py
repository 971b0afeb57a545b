"""Helpers for tests of weights: checkpoints of the parity cases, and files changed or written by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from tests.parity.cases import CASES
from tests.parity.harness import make_checkpoint
from triform.hub import Checkpoint

CASE = {case.name: case for case in CASES}

TensorDict = dict[str, torch.Tensor]


def make(name: str, folder: Path) -> Any:
    """Write a checkpoint of the case `name`, and return the reference model read back from the folder."""
    return make_checkpoint(CASE[name], folder)


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(folder, str(folder))


def read_file(folder: Path, file: str = "model.safetensors") -> TensorDict:
    tensors: TensorDict = safetensors.torch.load_file(folder / file)
    return tensors


def write_file(folder: Path, tensors: TensorDict, file: str = "model.safetensors") -> None:
    safetensors.torch.save_file(tensors, folder / file, metadata={"format": "pt"})


def edit_tensors(folder: Path, change: Callable[[TensorDict], None]) -> TensorDict:
    """Change the tensors of a checkpoint in place, and return all tensors."""
    tensors = read_file(folder)
    change(tensors)
    write_file(folder, tensors)
    return tensors


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_raw(path: Path, header: object, data: bytes, *, size: int | None = None, pad: int = 0) -> None:
    """Write a safetensors file by hand: any header, valid or not, with any length before the header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * pad
    path.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + data)
