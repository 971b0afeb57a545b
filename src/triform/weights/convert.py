"""Conversion: pickles (.bin files) → safetensors, by the loader of torch that runs no code."""

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import TensorSpec, serialize_file

from triform.errors import EngineError, WeightError
from triform.hub import ADAPTER, MODEL, MODULES, PICKLES, TRANSFORMERS, Checkpoint, Files, find_checkpoint
from triform.replacing import replacing_files
from triform.weights.export import check_output, copy_small_files, write_shards

KINDS = ((PICKLES, MODEL), (replace(ADAPTER, suffix=".bin"), ADAPTER))
"""Names of pickles → names of the safetensors files made from them."""

MAX_SHARING = 8
"""Most bytes of tensors for a byte of a file. Encoder, decoder and head may share one table under four names."""

Tensor = Any
"""`torch.Tensor`; torch is imported only to convert."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """The result of `convert`."""

    folder: Path
    """The folder of the safetensors files."""
    left_out: tuple[str, ...]
    """Entries of the pickles that are not tensors."""


def convert(
    model: str | Path,
    output: str | Path | None = None,
    *,
    revision: str | None = None,
    overwrite: bool = False,
    before_file: Callable[[str], None] = lambda file: None,
) -> Converted:
    """Write the weights in the .bin files of a checkpoint as safetensors.

    Every tensor keeps its name and dtype. Tensors that share memory are each written in full, so that a reader finds
    every name; Triform holds tied parameters once in any case. Modules of sentence-transformers and adapters are
    converted as well. Parts that already have safetensors are skipped.

    Arguments:
        model: a folder, or a Hub id, whose .bin files are then fetched.
        output: the folder to write to, with the small files of the checkpoint; by default the folder of the .bin files,
            which for a model of the Hub is in the local cache.
        revision: branch, tag or commit on the Hub.
        overwrite: whether to replace existing safetensors files.
        before_file: called with the name of each file before the file is written.

    Raises:
        ModelNotFoundError: the model cannot be found.
        WeightError: there is nothing to convert, or a pickle is damaged, holds code or holds no tensors.
        InputError: the output folder cannot be made, or lies inside of the model's.
        OutputError: the files cannot be written.
        EngineError: torch is not installed.
    """
    checkpoint = find_checkpoint(model, revision=revision, files=PICKLES)
    target = checkpoint.folder if output is None else Path(output)
    found = list(_pickles(checkpoint))
    if not found:
        raise WeightError(f"{checkpoint.folder} holds no {' and no '.join(kind.weights for kind, _ in KINDS)}.")
    pending = found if overwrite else [own for own in found if not _is_there(target / own[0], own[2])]
    if not pending:
        raise WeightError(f"{target} has all its weights as safetensors. Pass overwrite to write them again.")
    check_output(checkpoint.folder, target)
    left_out: list[str] = []
    contents = [_read(replace(checkpoint, folder=checkpoint.folder / part), pickles) for part, pickles, _ in pending]
    stale = [str(Path(part, pattern)) for part, _, files in pending for pattern in files.all_weights]
    with replacing_files(target, stale=stale) as new:  # nothing is written before all pickles are checked
        for (part, _, files), (tensors, others) in zip(pending, contents, strict=True):
            (new / part).mkdir(exist_ok=True)
            sizes = {name: tensor.nbytes for name, tensor in tensors.items()}
            write_shards(new / part, sizes, partial(_write_file, tensors=tensors, before_file=before_file), files=files)
            left_out += [str(Path(part, name)) for name in others]
        if not target.samefile(checkpoint.folder):
            copy_small_files(checkpoint.folder, new)
            if checkpoint.has(MODEL.config):
                shutil.copyfile(checkpoint.folder / MODEL.config, new / MODEL.config)
    return Converted(folder=target, left_out=tuple(left_out))


def _pickles(checkpoint: Checkpoint) -> Iterator[tuple[str, Files, Files]]:
    """Yield (folder below the checkpoint's, names of the pickles there, names of the safetensors files)."""
    parts = [path.name for pattern in (MODULES, TRANSFORMERS) for path in checkpoint.folder.glob(pattern)]
    for part in ("", *sorted(parts)):
        for pickles, files in KINDS:
            if _is_there(checkpoint.folder / part, pickles):
                yield part, pickles, files


def _is_there(folder: Path, files: Files) -> bool:
    return (folder / files.weights).is_file() or (folder / files.index).is_file()


def _read(checkpoint: Checkpoint, pickles: Files) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of one pickle or of its shards, and the names of entries that are not tensors."""
    names = [pickles.weights]
    if not checkpoint.has(pickles.weights):  # else the single file counts, as in the reference implementation
        weight_map = checkpoint.read_object(pickles.index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(Path(str(file)).name == file for file in weight_map.values()):
            raise WeightError(f"{checkpoint.folder / pickles.index}: expected a weight_map from tensor names to files.")
        names = sorted(set(weight_map.values()))
    if lacking := [file for file in names if not checkpoint.has(file)]:
        raise WeightError(
            f"{checkpoint.folder / lacking[0]} is missing or not a regular file, though the index names it. "
            "Fetch the model again."
        )
    entries = {name: value for file in names for name, value in _load(checkpoint.folder / file).items()}
    tensors = {str(name): value for name, value in entries.items() if hasattr(value, "data_ptr")}
    others = [str(name) for name in entries if str(name) not in tensors]
    odd = [name for name, tensor in tensors.items() if not _is_dense(tensor)]
    if odd or not tensors:
        kinds = "tensors that are sparse, quantized or without numbers"
        found = f"{kinds}: {', '.join(odd)}" if odd else f"no tensors, but {', '.join(others)}"
        raise WeightError(f"{checkpoint.folder / names[0]} holds {found or 'nothing'}; expected dense tensors by name.")
    _check_sizes(checkpoint.folder, names, tensors)
    return tensors, others


def _is_dense(tensor: Tensor) -> bool:
    return not (tensor.is_sparse or tensor.is_quantized or tensor.is_meta)


def _check_sizes(folder: Path, names: list[str], tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are much larger than their files: a tensor may repeat one number, or share all of them."""
    large = [name for name, tensor in tensors.items() if tensor.nbytes > tensor.untyped_storage().nbytes()]
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    stored = sum((folder / name).stat().st_size for name in names)
    if large or num_bytes > MAX_SHARING * stored:
        reason = f"{', '.join(large[:10])} repeat their numbers" if large else f"more than {MAX_SHARING} times as many"
        raise WeightError(
            f"{folder / names[0]}: {stored:,} bytes of files describe tensors of {num_bytes:,} bytes: {reason}. "
            "Files of a model hold each number once. Fetch the model again."
        )


def _load(path: Path) -> Mapping[Any, Any]:
    """Return the content of a pickle, read by torch without running code, mapped if the file is a zip archive."""
    try:
        import torch
    except ImportError as error:
        raise EngineError(
            "To read a .bin file, torch is needed. Install it for the conversion: pip install 'triform[torch]'"
        ) from error
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise WeightError(f"{path} is missing, though the index names it. Fetch the model again.") from error
    except Exception as error:  # torch lets through whatever goes wrong in a damaged pickle
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise WeightError(
                f"{path} holds code ({code[1]}), which will not be run, so its weights cannot be read. "
                "Use a model that comes as safetensors, or one from somebody you trust who converts it."
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightError(f"{path} is damaged or cut short: {reason} Fetch the file again.") from error
    if not isinstance(content, Mapping):
        raise WeightError(f"{path} holds {type(content).__name__}; expected tensors by name.")
    return content


def _check_archive(path: Path) -> None:
    """Refuse a zip archive with compressed entries. torch writes none, and a few bytes may grow to many."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise WeightError(f"{path} is damaged or cut short: {error}. Fetch the file again.") from error
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise WeightError(f"{path} is a compressed archive; expected one that torch.save wrote. Fetch the file again.")


def _write_file(
    names: list[str], path: Path, tensors: Mapping[str, Tensor], before_file: Callable[[str], None]
) -> None:
    before_file(path.name)
    # The library reads the numbers in place, so the tensors must stay alive until it returns.
    dense = {name: tensors[name].detach().contiguous() for name in names}
    specs = {
        name: TensorSpec(
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=list(tensor.shape),
            data_ptr=tensor.data_ptr(),
            data_len=tensor.nbytes,
        )
        for name, tensor in dense.items()
    }
    serialize_file(specs, path, metadata={"format": "pt"})
