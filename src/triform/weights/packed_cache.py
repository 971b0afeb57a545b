"""Packed weights in files, so that the next start maps them and is ready at once, and processes share them.

A file holds the linears of one checkpoint in the form in which one engine reads them. It is an ordinary safetensors
file; what it was made from is in its metadata, and its name is a digest of that.

`TRIFORM_CACHE` is the folder, by default `triform` in the user's cache folder; "off" for none.
`TRIFORM_CACHE_LIMIT` is the most gigabytes of all files together, by default 20.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from triform import strict_json
from triform.engines import Format, StoredTensor
from triform.errors import InputError, WeightError
from triform.weights.tensors import FORMATS, Tensors, read_header

LEAST_BYTES = 8 << 20
"""Smaller models are packed sooner than a file is found."""
PACKED_FORMATS = {**FORMATS, "I8": Format.INT8, "U8": Format.INT4}
"""Integers are bytes of an engine's own making, their scales among them; the dtype tells which they are."""
DTYPES = {format: dtype for dtype, format in PACKED_FORMATS.items()}
ALIGNMENT = 64
"""Bytes: a line of a processor's cache, and a vector of AVX-512."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file of the cache."""

    path: Path
    source: str
    """The model, as whoever loaded it first named it."""
    packing: str
    size: int
    used: float
    """When it was last used, in seconds since 1970."""
    digest: str
    """Of its tensors."""
    files: tuple[str, ...]
    """Those it was made from."""

    @property
    def is_orphan(self) -> bool:
        """Whether the model is gone."""
        return not all(Path(file).exists() for file in self.files)


@dataclass(frozen=True, slots=True)
class PackedCache:
    """A folder of packed weights, of at most `limit` bytes."""

    folder: Path
    limit: int

    @classmethod
    def from_environment(cls) -> "PackedCache | None":
        """The cache that the environment asks for; None where it is off.

        Raises:
            InputError: `TRIFORM_CACHE_LIMIT` is no number.
        """
        place = os.environ.get("TRIFORM_CACHE", "")
        if place == "off":
            return None
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        limit = os.environ.get("TRIFORM_CACHE_LIMIT", "20")
        try:
            num_bytes = int(float(limit) * 1e9)
        except (ValueError, OverflowError) as error:
            raise InputError(f"TRIFORM_CACHE_LIMIT={limit!r}: expected a number of gigabytes, such as 20.") from error
        return cls(Path(place).expanduser() if place else Path(home) / "triform", num_bytes)

    def open(
        self, identity: Mapping[str, Any], source: str, names: Sequence[str], pack: Callable[[str], StoredTensor]
    ) -> Tensors | None:
        """The packed tensors of a model, from their file, which is made where there is none.

        Arguments:
            identity: all that they depend on, as JSON: `packing`, `files` (path, size, time) and more.
            source: the model's name, for people.
            names: the canonical names of what is to be packed.
            pack: name → its packed form; called for one at a time, so that no more than one is in memory.

        Returns:
            None where no file can be had: the disk is full or for reading only, or the limit is too small.
        """
        path = self.folder / f"{blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()}.safetensors"
        with suppress(OSError, WeightError):
            tensors = Tensors(self.folder, read_header(path, PACKED_FORMATS))
            os.utime(path)
            return tensors
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files = json.dumps([file for file, *_ in identity["files"]])
            _write(path, {"source": source, "packing": identity["packing"], "files": files}, names, pack)
            self._make_room(path)
            return Tensors(self.folder, read_header(path, PACKED_FORMATS))
        except (OSError, WeightError):
            return None

    def entries(self) -> Iterator[Entry]:
        """The files that can be read, the last used first."""
        found = []
        for path in self.folder.glob("*.safetensors"):
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                stat = path.stat()
                known = _metadata(path)
                files = tuple(map(str, json.loads(known.pop("files"))))
                found.append(Entry(path=path, size=stat.st_size, used=stat.st_mtime, files=files, **known))
        yield from sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> list[Path]:
        """Delete all files, half-written ones too."""
        paths = [*self.folder.glob("*.safetensors"), *self.folder.glob(".*.partial")]
        for path in paths:
            path.unlink(missing_ok=True)
        return paths

    def _make_room(self, newest: Path) -> None:
        """Delete what belongs to no model any more, and what was not used for the longest time beyond the limit."""
        entries = sorted(self.entries(), key=lambda entry: (entry.path != newest, -entry.used))
        total = 0
        for entry in entries:
            total += 0 if entry.is_orphan else entry.size
            if entry.is_orphan or total > self.limit:
                entry.path.unlink(missing_ok=True)


def is_sound(entry: Entry) -> bool:
    """Whether the tensors of a file are those that were written."""
    try:
        with entry.path.open("rb") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            digest = blake2b(digest_size=16)
            while piece := file.read(1 << 24):
                digest.update(piece)
    except OSError:
        return False
    return digest.hexdigest() == entry.digest


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        header = strict_json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: str(value) for name, value in header["__metadata__"].items()}


def _write(path: Path, metadata: Mapping[str, str], names: Sequence[str], pack: Callable[[str], StoredTensor]) -> None:
    """Write tensors one after another, and before them a header that is known only at the end."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}.partial")
    # A line of the header is its name and at most so many bytes.
    room = 8 + 1024 + sum(map(len, metadata.values())) + sum(len(name) + 256 for name in names)
    start = -(-room // ALIGNMENT) * ALIGNMENT
    try:
        with hidden.open("wb") as file:
            file.seek(start)
            header = _write_tensors(file, names, pack)
            header["__metadata__"] |= metadata
            text = json.dumps(header).encode().ljust(start - 8)
            file.seek(0)
            file.write((start - 8).to_bytes(8, "little") + text)
        os.replace(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)


def _write_tensors(file: BinaryIO, names: Sequence[str], pack: Callable[[str], StoredTensor]) -> dict[str, Any]:
    header: dict[str, Any] = {}
    digest = blake2b(digest_size=16)
    begin = 0
    for name in names:
        packed = pack(name)
        content = np.ascontiguousarray(packed.array).data.cast("B")
        digest.update(content)
        file.write(content)
        end = begin + len(content)
        header[name] = {
            "dtype": DTYPES[Format(packed.format)],
            "shape": list(packed.array.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    return header | {"__metadata__": {"digest": digest.hexdigest()}}
