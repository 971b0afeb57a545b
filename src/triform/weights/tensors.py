"""The tensors of a checkpoint: safetensors files, one or sharded, validated by their library and mapped into memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from triform import strict_json
from triform.engines import Format, StoredTensor
from triform.errors import WeightError
from triform.hub import MODEL, Checkpoint, Files

FORMATS = {"F32": Format.FLOAT32, "F16": Format.FLOAT16, "BF16": Format.BFLOAT16}
"""By their names in safetensors. Integers mean nothing without the scales that go with them."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a file says of a tensor."""

    file: str
    dtype: str
    """As safetensors writes it: F32, BF16 …"""
    shape: tuple[int, ...]
    begin: int
    """Where its bytes begin in the file."""
    end: int
    format: Format | None
    """None where a parameter cannot be made of it."""
    scales: "TensorInfo | None" = None
    """Of integers; in checkpoints a tensor of its own."""


class Tensors(Mapping[str, TensorInfo]):
    """All tensors of a checkpoint by name; their numbers are read when asked for."""

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

    def having(self, infos: dict[str, TensorInfo]) -> "Tensors":
        """Other tensors, whose files lie in the same folder or are named in full."""
        return type(self)(self.folder, infos)

    def identity(self) -> list[list[str | int]]:
        """What tells these files from others, and from later ones of the same names, without reading them."""
        files = {part.file for info in self._infos.values() for part in (info, info.scales) if part is not None}
        paths = [(self.folder / file).resolve() for file in sorted(files)]
        stats = [path.stat() for path in paths]
        return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]

    def map(self, file: str) -> NDArray[np.uint8]:
        """All bytes of a file, which is mapped when they are first asked for."""
        if file not in self._maps:
            self._maps[file] = np.memmap(self.folder / file, np.uint8, "r").view(np.ndarray)
        return self._maps[file]

    def bytes(self, info: TensorInfo) -> NDArray[np.uint8]:
        """The bytes of a tensor, a view of the mapped file."""
        return self.map(info.file)[info.begin : info.end]

    def unmap(self) -> None:
        """Let go of the files, whose pages count as memory of this process; what is read is mapped again."""
        self._maps.clear()

    def read(self, name: str) -> StoredTensor:
        """The tensor, a view of the mapped file. It must have a format."""
        return self.stored(self[name])

    def stored(self, info: TensorInfo) -> StoredTensor:
        """What the file holds; integers as bytes, since each layout has an order of its own for them."""
        assert info.format is not None
        numbers = self.bytes(info) if info.format.is_integer else self.bytes(info).view(info.format.storage)
        return StoredTensor(numbers.reshape(info.shape), info.format)

    def equal(self, first: str, second: str) -> bool:
        """Whether two tensors are the same, bit for bit."""
        one, other = self[first], self[second]
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        both = ((one, other), (one.scales, other.scales))
        return all(np.array_equal(self.bytes(a), self.bytes(b)) for a, b in both if a is not None and b is not None)


def open_tensors(checkpoint: Checkpoint, files: Files = MODEL) -> Tensors:
    """Read the headers of a checkpoint's safetensors files.

    Raises:
        WeightError: there are none, one is damaged, or the index and the files disagree.
    """
    folder, index = checkpoint.folder, checkpoint.folder / files.index
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
    if checkpoint.has(files.weights):
        return Tensors(folder, _read_shard(index, files.weights))
    if any(folder.glob("*.bin")):
        raise WeightError(
            f"{folder} holds its weights in a .bin file, a pickle, which can run code when it is read. "
            f"Convert it, without running any: triform convert {checkpoint.source}"
        )
    raise WeightError(
        f"{folder} has neither {files.weights} nor {files.index}. Fetch the weights, or name another folder."
    )


def load_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its tensors begin.

    Raises:
        FileNotFoundError: there is none.
        WeightError: it is damaged.
    """
    try:
        # The library checks the header against the file; only then is it safe to take the offsets from it.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            return strict_json.loads(stream.read(size)), 8 + size
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightError(f"{path} is damaged or cut short: {error}. Fetch the file again.") from error


def infos_of(file: str, header: dict[str, Any], start: int, formats: Mapping[str, Format]) -> dict[str, TensorInfo]:
    """What the header of a file says of its tensors, of which `formats` are those that parameters are made of."""
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
        return infos_of(path.name, *load_header(path), FORMATS)
    except FileNotFoundError as error:
        raise WeightError(f"{path} is missing, though {index.name} names it. Fetch the model again.") from error
