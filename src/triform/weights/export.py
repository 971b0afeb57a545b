"""Export: tensors → the files of a checkpoint in the Hugging Face layout, whole or not at all."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize_file

from triform.engines import StoredTensor
from triform.errors import InputError
from triform.hub import MODEL, MODULES, Files
from triform.weights.compressed_tensors import Content, to_file_tensors

SHARD_BYTES = 5_000_000_000
"""Most bytes of a file, as in `transformers`."""


def make_folder(folder: Path) -> None:
    """Make a folder to write to, unless the folder exists.

    Raises:
        InputError: the folder cannot be made, for example because a file has this name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made a folder: {error.strerror}. Name another.") from error


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

    All files are complete before the first gets its name. So a model may be saved over the folder it was loaded from,
    and a failure leaves the old files. Shards of an earlier save are deleted.

    Arguments:
        folder: the target.
        sizes: tensor name → bytes, in the order of the files.
        write_file: called with names of tensors and the path of the file to write them to.
        files: the names of the files.
        shard_bytes: the limit of a file, unless one tensor is larger.
    """
    shards = list(_shards(sizes, shard_bytes))
    pattern = files.shards.replace("*", "{:05d}")
    names = [pattern.format(number, len(shards)) for number in range(1, len(shards) + 1)]
    written = dict(zip(names if len(shards) > 1 else [files.weights], shards, strict=True))
    with _replacing_files(folder) as write:
        for file, own in written.items():
            write(file, partial(write_file, own))
        if len(written) > 1:
            weight_map = {name: file for file, own in written.items() for name in own}
            content = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
            write(files.index, partial(_write_json, content=content))
    stale = {*folder.glob(files.shards), folder / files.weights, folder / files.index}
    kept = {folder / file for file in (*written, files.index)} if len(written) > 1 else {folder / files.weights}
    for path in stale - kept:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all."""
    with _replacing_files(path.parent) as write:
        write(path.name, partial(_write_json, content=content))


def sync_to_disk(path: Path) -> None:
    """Wait until a file or a folder has reached the disk."""
    if os.name == "nt" and path.is_dir():  # Windows has no handles for folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _replacing_files(folder: Path) -> Iterator[Callable[[str, Callable[[Path], None]], None]]:
    """Write files under hidden names, and rename them together once all are on the disk; delete them on a failure."""
    written: dict[Path, Path] = {}

    def write(name: str, content: Callable[[Path], None]) -> None:
        hidden = folder / f".{name}.partial"
        written[hidden] = folder / name
        content(hidden)

    try:
        yield write
        for hidden in written:
            sync_to_disk(hidden)
        for hidden, path in written.items():
            os.replace(hidden, path)
        sync_to_disk(folder)
    finally:
        for hidden in written:
            hidden.unlink(missing_ok=True)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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


def copy_small_files(source: Path, target: Path, *, fits: Callable[[Path], bool] = lambda relative: True) -> None:
    """Copy tokenizer, modules and generation settings: all but config.json and the model's own weights.

    Arguments:
        source: the folder to copy from.
        target: the folder to copy to.
        fits: (path below `source`) → whether to copy the file.
    """
    if source.resolve() == target.resolve():
        return
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if not path.is_file() or relative.name.startswith(".") or relative == Path("config.json"):
            continue
        if not fits(relative):
            continue
        is_small = path.suffix in (".json", ".txt", ".model", ".spm", ".jinja", ".md")
        if (is_small and not path.match("*.index.json")) or relative.match(f"{MODULES}/{MODEL.weights}"):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            (target / relative).write_bytes(path.read_bytes())


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
