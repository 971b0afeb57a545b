"""Parameters → a checkpoint in the Hugging Face layout, by the family's table read backwards."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize_file

from triform.engines import StoredTensor
from triform.hub import INDEX, WEIGHTS

SHARD_BYTES = 5_000_000_000
"""The largest file, as `transformers` cuts them."""


def write_tensors(folder: Path, tensors: Mapping[str, StoredTensor], *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors under their checkpoint names into one file, or into shards with an index.

    Each file appears whole or not at all, so a model may be saved over the folder it was loaded from.
    """
    shards = list(_shards(tensors, shard_bytes))
    if len(shards) == 1:
        _write_file(folder / WEIGHTS, tensors, shards[0])
        (folder / INDEX).unlink(missing_ok=True)
        return
    weight_map = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_file(folder / file, tensors, names)
        weight_map.update(dict.fromkeys(names, file))
    total = sum(tensor.array.nbytes for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    (folder / WEIGHTS).unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


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
    partial = path.with_name(f".{path.name}.partial")
    serialize_file(specs, partial, metadata={"format": "pt"})
    os.replace(partial, path)
