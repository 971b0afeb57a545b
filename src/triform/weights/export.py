"""Export: tensors → the files of a checkpoint in the Hugging Face layout."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize_file

from triform.engines import StoredTensor
from triform.errors import CheckpointWarning, InputError
from triform.hub import MODEL, MODULES, Files
from triform.replacing import write_json
from triform.strict_json import MAX_BYTES
from triform.weights.compressed_tensors import Content, to_file_tensors

SHARD_BYTES = 5_000_000_000
"""Most bytes of a file, as in `transformers`."""
SMALL = (".json", ".txt", ".model", ".spm", ".jinja", ".md")
"""Endings of the files beside the weights that are copied."""


def write_tensors(
    folder: Path, tensors: Mapping[str, StoredTensor], *, files: Files = MODEL, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write tensors under their checkpoint names into one file, or into shards with an index."""
    content = {part: own for name, tensor in tensors.items() for part, own in to_file_tensors(name, tensor).items()}
    sizes = {name: array.nbytes for name, (_, array) in content.items()}
    write_shards(folder, sizes, partial(_write_file, content=content), files=files, shard_bytes=shard_bytes)


def write_shards(
    folder: Path,
    sizes: Mapping[str, int],
    write_file: Callable[[list[str], Path], None],
    *,
    files: Files = MODEL,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write tensors into one file, or a sharded checkpoint: several files with an index.

    Arguments:
        folder: the target, without weights.
        sizes: tensor name → bytes, in the order of the files.
        write_file: called with names of tensors and the path of the file to write them to.
        files: the names of the files.
        shard_bytes: the limit of a file, unless one tensor is larger.
    """
    shards = list(_shards(sizes, shard_bytes))
    pattern = files.shards.replace("*", "{:05d}")
    names = [pattern.format(number, len(shards)) for number in range(1, len(shards) + 1)]
    written = dict(zip(names if len(shards) > 1 else [files.weights], shards, strict=True))
    for file, own in written.items():
        write_file(own, folder / file)
    if len(written) > 1:
        weight_map = {name: file for file, own in written.items() for name in own}
        write_json(folder / files.index, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def _shards(sizes: Mapping[str, int], shard_bytes: int) -> Iterator[list[str]]:
    names: list[str] = []
    total = 0
    for name, size in sizes.items():
        if names and total + size > shard_bytes:
            yield names
            names, total = [], 0
        names.append(name)
        total += size
    yield names


def check_output(source: Path, target: Path) -> None:
    """Refuse a target inside of the source, which the next copy of the source would copy too.

    Raises:
        InputError: the target lies inside of the source.
    """
    if source.resolve() in target.resolve().parents:
        raise InputError(f"{target} lies inside of {source}, the model's own folder. Write to another folder.")


def copy_small_files(source: Path, target: Path, *, fits: Callable[[Path], bool] = lambda relative: True) -> None:
    """Copy tokenizer, modules and generation settings: all but config.json and the model's own weights.

    Links that lead out of the source are not copied, since the files that they lead to may be private.

    Arguments:
        source: the folder to copy from.
        target: the folder to copy to.
        fits: (path below `source`) → whether to copy the file.

    Warns:
        CheckpointWarning: a file is not copied, because it is a link out of the source, or too large.
    """
    import shutil  # seldom needed, and slow to import

    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        is_hidden = any(part.startswith(".") for part in relative.parts)
        if not path.is_file() or is_hidden or relative == Path("config.json"):
            continue
        is_small = path.suffix in SMALL and not path.match("*.index.json")
        if not (is_small or relative.match(f"{MODULES}/{MODEL.weights}")) or not fits(relative):
            continue
        if not _is_inside(path, source):
            left = f"it is a link to {os.path.realpath(path)}, outside of the folder"
        elif is_small and path.stat().st_size > MAX_BYTES:
            left = f"it has more than {MAX_BYTES:,} bytes"
        else:
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / relative)
            continue
        message = f"{path} is not copied: {left}. Copy the file yourself if the checkpoint needs it."
        warnings.warn(message, CheckpointWarning, stacklevel=2)


def _is_inside(path: Path, folder: Path) -> bool:
    """Return whether a file lies in a folder, or among the files of the Hub's cache that the folder's links lead to."""
    real, places = path.resolve(), [folder.resolve()]
    if folder.parent.name == "snapshots":
        places.append(folder.parent.parent.resolve() / "blobs")
    return any(place in real.parents for place in places)


def _write_file(names: list[str], path: Path, content: Content) -> None:
    # The library reads the numbers in place, so the arrays must stay alive until it returns.
    arrays = {name: np.ascontiguousarray(content[name][1]) for name in names}
    specs = {
        name: TensorSpec(
            dtype=content[name][0], shape=list(array.shape), data_ptr=array.ctypes.data, data_len=array.nbytes
        )
        for name, array in arrays.items()
    }
    serialize_file(specs, path, metadata={"format": "pt"})
