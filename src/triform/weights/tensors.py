"""Checkpoint tensors: safetensors files, single or sharded, validated by their library and mapped into memory."""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from triform import strict_json
from triform.engines import Format, StoredTensor
from triform.errors import ModelNotFoundError, WeightError, shown
from triform.hub import MODEL, Checkpoint, Files, explain_unreadable

FORMATS = {"F32": Format.FLOAT32, "F16": Format.FLOAT16, "BF16": Format.BFLOAT16}
"""Dtype in safetensors → format of a parameter. Integers are missing here: they mean nothing without their scales."""

SAMPLE = 1024
"""Bytes of a tensor by which to recognise the tensor: one read of a disk."""


class TensorInfo(NamedTuple):
    """The entry of a tensor in the header of a file."""

    file: str
    """Name of the file, or its full path."""
    dtype: str
    """In the spelling of safetensors: F32, BF16 …"""
    shape: tuple[int, ...]
    begin: int
    """Offset of the first byte in the file."""
    end: int
    """Offset behind the last byte."""
    format: Format | None
    """None if a parameter cannot have this dtype."""
    scales: "TensorInfo | None" = None
    """The scales of integers, a separate tensor in checkpoints."""


class Tensors(Mapping[str, TensorInfo]):
    """Tensor name → entry in a file, for all tensors of a checkpoint. Numbers are read on demand."""

    def __init__(self, folder: Path, infos: dict[str, TensorInfo]) -> None:
        self.folder = folder
        self._infos = infos
        self._maps: dict[str, NDArray[np.uint8]] = {}

    def __getitem__(self, name: str) -> TensorInfo:
        return self._infos[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def replace_infos(self, infos: dict[str, TensorInfo]) -> "Tensors":
        """Return tensors with these entries; files are relative to the same folder, or full paths."""
        return type(self)(self.folder, infos)

    def identity(self, names: Iterable[str]) -> list[list[str | int]]:
        """Return values by which to recognise the files of some tensors later, without reading them whole.

        A file counts as the same if its path, size, inode and times are, the time of the last change of the inode
        among them, which no program can set; and if the entries of the tensors in the header are the same, and
        `SAMPLE` bytes from the middle of each tensor.

        Returns:
            For each file: path, size, inode, times of content and inode, and a digest of entries and samples.
        """
        digests: dict[str, blake2b] = {}
        for name in sorted(names):
            for info in (self[name], self[name].scales):
                if info is not None:
                    digest = digests.setdefault(info.file, blake2b(digest_size=16))
                    digest.update(repr((name, info.dtype, info.shape, info.begin, info.end)).encode())
                    content = self.view_bytes(info)
                    digest.update(content[max(0, len(content) - SAMPLE) // 2 :][:SAMPLE].data)
        paths = {file: (self.folder / file).resolve() for file in sorted(digests)}
        stats = {file: path.stat() for file, path in paths.items()}
        return [
            [str(paths[file]), at.st_size, at.st_ino, at.st_mtime_ns, at.st_ctime_ns, digests[file].hexdigest()]
            for file, at in stats.items()
        ]

    def map_file(self, file: str) -> NDArray[np.uint8]:
        """Return all bytes of a file, of shape (bytes,); the first call maps the file."""
        if file not in self._maps:
            self._maps[file] = np.memmap(self.folder / file, np.uint8, "r").view(np.ndarray)
        return self._maps[file]

    def view_bytes(self, info: TensorInfo) -> NDArray[np.uint8]:
        """Return the bytes of a tensor, of shape (bytes,), a view of the mapped file."""
        return self.map_file(info.file)[info.begin : info.end]

    def unmap(self) -> None:
        """Release the mapped files, since their pages count as memory of the process. A later read maps them again."""
        self._maps.clear()

    def read(self, name: str) -> StoredTensor:
        """Return a tensor with a format, as a view of the mapped file."""
        return self.read_info(self[name])

    def read_info(self, info: TensorInfo) -> StoredTensor:
        """Return the tensor of a header entry with a format, as a view of the mapped file; integers as bytes."""
        assert info.format is not None
        # Each layout has an order of its own for integers.
        numbers = self.view_bytes(info) if info.format.is_integer else self.view_bytes(info).view(info.format.storage)
        return StoredTensor(numbers.reshape(info.shape), info.format)

    def equal(self, first: str, second: str) -> bool:
        """Return whether two tensors are equal bit for bit, scales included."""
        one, other = self[first], self[second]
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        both = ((one, other), (one.scales, other.scales))
        return all(
            np.array_equal(self.view_bytes(a), self.view_bytes(b)) for a, b in both if a is not None and b is not None
        )


def open_tensors(checkpoint: Checkpoint, files: Files = MODEL) -> Tensors:
    """Read the headers of a checkpoint's safetensors files.

    Raises:
        WeightError: the files are missing, one is damaged, or the index and the files disagree.
    """
    folder, index = checkpoint.folder, checkpoint.folder / files.index
    # The reference implementation prefers the single file too: saving over shards may leave their index behind.
    if checkpoint.has(files.weights):
        return Tensors(folder, _read_shard(index, files.weights))
    if checkpoint.has(files.index):
        weight_map = checkpoint.read_object(files.index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise WeightError(f"{index}: expected a weight_map from tensor names to files.")
        shards = sorted(set(weight_map.values()))
        infos = {name: info for file in shards for name, info in _read_shard(index, file).items()}
        lost = [f"{name}: not in {file}" for name, file in weight_map.items() if name not in infos]
        if lost:
            raise WeightError(f"{index} names tensors that its files lack:\n  " + "\n  ".join(lost))
        return Tensors(folder, infos)
    if any(folder.glob("*.bin")):
        raise WeightError(
            f"{folder} holds its weights in a .bin file, a pickle, which can run code when it is read. "
            f"Convert it, without running any: triform convert {checkpoint.source}"
        )
    raise WeightError(
        f"{folder} has neither {files.weights} nor {files.index}. Fetch the weights, or name another folder."
    )


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and the offset of the first tensor in bytes.

    Raises:
        FileNotFoundError: the file does not exist, or is a folder, a pipe or a device.
        ModelNotFoundError: the file may not be read.
        WeightError: the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with path.open("rb") as stream:
            # The library checks the header against the file; only then is it safe to take the offsets from it.
            with safe_open(path, framework="numpy"):
                pass
            size = int.from_bytes(stream.read(8), "little")
            return strict_json.loads(stream.read(size)), 8 + size
    except PermissionError as error:
        raise ModelNotFoundError(explain_unreadable(path)) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightError(f"{path} is damaged or cut short: {error}. Fetch the file again.") from error


def make_infos(file: str, header: dict[str, Any], start: int, formats: Mapping[str, Format]) -> dict[str, TensorInfo]:
    """Return the entries of a file's header.

    Arguments:
        file: name of the file.
        header: of `read_header`, as is `start`.
        start: offset of the first tensor in bytes.
        formats: dtype → format, for the dtypes that parameters can have.
    """
    infos = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            dtype, shape = entry["dtype"], tuple(entry["shape"])
            infos[name] = TensorInfo(file, dtype, shape, start + begin, start + end, formats.get(dtype))
    return infos


def _read_shard(index: Path, file: str) -> dict[str, TensorInfo]:
    path = index.parent / file
    if path.parent.resolve() != index.parent.resolve():
        raise WeightError(f"{index} names {file}, which lies outside the model's folder.")
    try:
        return make_infos(path.name, *read_header(path), FORMATS)
    except FileNotFoundError as error:
        raise WeightError(f"{path} is missing, though {index.name} names it. Fetch the model again.") from error
    except OSError as error:  # a name that no file can have
        raise WeightError(f"{index} names {shown(file)}: {error.strerror}. Fetch the model again.") from error
