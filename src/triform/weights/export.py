"""Parameters → a checkpoint in the Hugging Face layout, by the family's table read backwards."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize_file

from triform.engines import StoredTensor
from triform.hub import INDEX, WEIGHTS

SHARD_BYTES = 5_000_000_000
"""The largest file, as `transformers` cuts them."""


def write_tensors(folder: Path, tensors: Mapping[str, StoredTensor], *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors under their checkpoint names into one file, or into shards with an index.

    All files are written before the first takes its place, so a model may be saved over the folder it was loaded from,
    and a failure on the way leaves what was there. Shards of an earlier save are taken away.
    """
    shards = list(_shards(tensors, shard_bytes))
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    files = dict(zip(names if len(shards) > 1 else [WEIGHTS], shards, strict=True))
    with _in_place(folder) as write:
        for file, own in files.items():
            write(file, partial(_write_file, tensors=tensors, names=own))
        if len(files) > 1:
            total = sum(tensor.array.nbytes for tensor in tensors.values())
            weight_map = {name: file for file, own in files.items() for name in own}
            write(INDEX, partial(_write_json, content={"metadata": {"total_size": total}, "weight_map": weight_map}))
    stale = {*folder.glob("model-*-of-*.safetensors"), folder / WEIGHTS, folder / INDEX}
    kept = {folder / file for file in (*files, INDEX)} if len(files) > 1 else {folder / WEIGHTS}
    for path in stale - kept:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all."""
    with _in_place(path.parent) as write:
        write(path.name, partial(_write_json, content=content))


@contextmanager
def _in_place(folder: Path) -> Iterator[Callable[[str, Callable[[Path], None]], None]]:
    """Files written under other names first; they take their places together at the end, or disappear."""
    written: dict[Path, Path] = {}

    def write(name: str, content: Callable[[Path], None]) -> None:
        hidden = folder / f".{name}.partial"
        written[hidden] = folder / name
        content(hidden)

    try:
        yield write
        for hidden, path in written.items():
            os.replace(hidden, path)
    finally:
        for hidden in written:
            hidden.unlink(missing_ok=True)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _shards(tensors: Mapping[str, StoredTensor], shard_bytes: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if names and size + tensor.array.nbytes > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.array.nbytes
    yield names


def _write_file(path: Path, tensors: Mapping[str, StoredTensor], names: list[str]) -> None:
    # The library reads the numbers where they lie, so the arrays must stay alive until it is done.
    arrays = {name: np.ascontiguousarray(tensors[name].array) for name in names}
    specs = {
        name: TensorSpec(
            dtype=tensors[name].format.value, shape=list(array.shape), data_ptr=array.ctypes.data, data_len=array.nbytes
        )
        for name, array in arrays.items()
    }
    serialize_file(specs, path, metadata={"format": "pt"})
