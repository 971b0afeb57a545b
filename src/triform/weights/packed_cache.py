"""The packed cache: files of packed weights, mapped by the next start and shared by processes.

A file holds the linears of one checkpoint in the form that one engine reads. The file is an ordinary safetensors file;
its name is a digest of everything the content depends on.

A damaged file is made again. The header carries a digest of itself and the file's name, checked at each start, and a
digest of all tensors. Reading all tensors at each start would take as long as embedding a text. Instead the fraction of
the second in the file's modification time is a seal: any other program that writes to the file breaks the seal, and
only a file with a broken seal is read and compared. `triform cache verify` finds bits that the disk itself lost, or
that a program changed which then set the old time.

Digests tell damage, not malice: a user with the right to write to the folder chooses the weights. So the folder must
belong to the user or to root, and nobody else may write to it.

`TRIFORM_CACHE` is the folder, by default `triform` in the user's cache folder; "off" disables the cache.
`TRIFORM_CACHE_LIMIT` limits all files together, in gigabytes, by default 20.
"""

import json
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from triform.engines import Format, StoredTensor
from triform.errors import CacheWarning, InputError, WeightError
from triform.weights.tensors import FORMATS, Tensors, make_infos, read_header

LEAST_BYTES = 8 << 20
"""The least size of a model to cache: a smaller one is packed in less time than a file takes to open."""
PACKED_FORMATS = {**FORMATS, "I8": Format.INT8, "U8": Format.INT4}
"""Dtype in the files → format. Integers are packed bytes, scales included; their dtype stands for the format."""
DTYPES = {format: dtype for dtype, format in PACKED_FORMATS.items()}
ALIGNMENT = 64
"""Bytes of a cache line of the processor, and of a vector of AVX-512."""
FILES = "[0-9a-f]" * 32 + ".safetensors"
METADATA = {"source", "packing", "files", "digest", "header"}
"""Keys that the header of each file has."""
ABANDONED = 3600
"""Seconds without a write after which a half-written file counts as abandoned."""


class Entry(NamedTuple):
    """A file of the cache."""

    path: Path
    source: str
    """The model, by the name under which it was first loaded."""
    packing: str
    size: int
    used: float
    """Time of the last use, in seconds since 1970."""
    files: tuple[str, ...]
    """Paths of the checkpoint files."""

    @property
    def is_orphan(self) -> bool:
        """Return whether a checkpoint file no longer exists."""
        return not all(Path(file).exists() for file in self.files)


class PackedCache(NamedTuple):
    """A folder of files of packed weights, of at most `limit` bytes."""

    folder: Path
    limit: int

    @classmethod
    def from_environment(cls) -> "PackedCache | None":
        """Return the cache described by environment variables.

        Returns:
            The cache; None if the variables disable the cache, or, with a warning, if no folder can be trusted.

        Raises:
            InputError: `TRIFORM_CACHE_LIMIT` is not a number, or `TRIFORM_CACHE` names the folder of an unknown user.
        """
        place = os.environ.get("TRIFORM_CACHE", "")
        if place == "off":
            return None
        limit = os.environ.get("TRIFORM_CACHE_LIMIT", "20")
        try:
            num_bytes = int(float(limit) * 1e9)
        except (ValueError, OverflowError) as error:
            raise InputError(f"TRIFORM_CACHE_LIMIT={limit!r}: expected a number of gigabytes, such as 20.") from error
        folder = _folder(place)
        return cls(folder, num_bytes) if folder is not None and _is_trusted(folder) else None

    def open(
        self, identity: Mapping[str, Any], source: str, names: Sequence[str], pack: Callable[[str], StoredTensor]
    ) -> Tensors | None:
        """Return the packed tensors of a model from a file, and make the file if necessary.

        Arguments:
            identity: everything the content depends on, as JSON: `packing`, `files` (path and more) and others.
            source: the model's name, for people.
            names: canonical names of the parameters to pack.
            pack: name → packed tensor; called one at a time, so that only one is in memory.

        Returns:
            The tensors; None without a file: the disk is full or read-only, or the limit is too small.
        """
        path = self.folder / f"{_digest(identity)}.safetensors"
        with suppress(OSError, WeightError):
            return _open(path, names)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_trusted(self.folder):
                return None
            files = json.dumps([file for file, *_ in identity["files"]])
            _write(path, {"source": source, "packing": identity["packing"], "files": files}, names, pack)
            self._make_room(path)
            return _open(path, names)
        except (OSError, WeightError):
            return None

    def entries(self) -> Iterator[Entry]:
        """Yield the readable files, the last used first."""
        found = []
        for path in self.folder.glob(FILES):
            with suppress(OSError, WeightError):
                found.append(_entry(path))
        yield from sorted(found, key=lambda entry: -entry.used)

    def verify(self) -> dict[Path, bool]:
        """Return for each file whether it is as it was written, to the last byte."""
        return {path: _is_sound(path) for path in sorted(self.folder.glob(FILES))}

    def clear(self) -> list[Path]:
        """Delete all files, half-written files too; return their paths."""
        paths = [*self.folder.glob(FILES), *self._half_written()]
        for path in paths:
            path.unlink(missing_ok=True)
        return paths

    def _half_written(self) -> Iterator[Path]:
        return self.folder.glob(f".{FILES}.*.partial")

    def _make_room(self, newest: Path) -> None:
        """Delete files without a model, then the least recently used ones until the limit is kept."""
        entries = sorted(self.entries(), key=lambda entry: (entry.path != newest, -entry.used))
        total = 0
        for entry in entries:
            total += 0 if entry.is_orphan else entry.size
            if entry.is_orphan or total > self.limit:
                entry.path.unlink(missing_ok=True)
        for path in self._half_written():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()


def _folder(place: str) -> Path | None:
    """Return the folder of the cache; None, with a warning, for a user without a home folder."""
    try:
        if place:
            return Path(place).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triform"
    except RuntimeError as error:
        if place:
            raise InputError(f"TRIFORM_CACHE={place!r}: {error} Name a folder, or off.") from error
        _warn_of_no_cache("This user has no home folder. Set HOME or TRIFORM_CACHE to a folder, or TRIFORM_CACHE=off.")
        return None


def _is_trusted(folder: Path) -> bool:
    """Return whether only this user and root may write to a folder, or the folder does not exist; else warn."""
    if not hasattr(os, "geteuid"):  # Windows
        return True
    try:
        found = folder.stat()
    except OSError:
        return True
    if found.st_uid not in (os.geteuid(), 0):
        _warn_of_no_cache(f"{folder} belongs to another user. Set TRIFORM_CACHE to a folder of your own, or off.")
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _warn_of_no_cache(f"Others may write to {folder}. Forbid it (chmod go-w), or set TRIFORM_CACHE to another.")
    else:
        return True
    return False


def _warn_of_no_cache(reason: str) -> None:
    message = f"{reason} Until then the packed cache is off, and weights are packed at each start."
    warnings.warn(message, CacheWarning, stacklevel=2)


def _entry(path: Path) -> Entry:
    """Describe a file.

    Raises:
        OSError: the file cannot be read.
        WeightError: the header is not as it was written.
    """
    found, known = path.stat(), _header(path)[0]["__metadata__"]
    try:
        files = tuple(json.loads(known["files"]))
        is_described = all(isinstance(file, str) and "\0" not in file for file in files)
    except (ValueError, TypeError, RecursionError):
        is_described = False
    if not is_described:
        raise WeightError(f"{path} does not name the files of its model.")
    return Entry(
        path=path,
        source=known["source"],
        packing=known["packing"],
        size=found.st_size,
        used=found.st_mtime,
        files=files,
    )


def _open(path: Path, names: Sequence[str]) -> Tensors:
    """Return the tensors of a file, mapped.

    Raises:
        FileNotFoundError: the file does not exist.
        WeightError: the file is not as it was written, or lacks one of the names.
    """
    header, start = _header(path)
    if path.stat().st_mtime_ns % 10**9 != _seal(header) and not _has_content(path, header, start):
        raise WeightError(f"{path} is damaged.")
    # On a read-only disk the file is used all the same.
    with suppress(OSError):
        _note_use(path, header)
    infos = make_infos(path.name, header, start, PACKED_FORMATS)
    if any(name not in infos or infos[name].format is None for name in names):
        raise WeightError(f"{path} does not hold the packed weights of this model.")
    tensors = Tensors(path.parent, infos)
    # At once, since another process may delete the file at any time.
    tensors.map_file(path.name)
    return tensors


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file, and the offset of the first tensor in bytes.

    Raises:
        FileNotFoundError: the file does not exist.
        WeightError: the header is not as it was written.
    """
    header, start = read_header(path)
    known = header.setdefault("__metadata__", {})
    if not known.keys() >= METADATA or known["header"] != _digest_of_header(path, header):
        raise WeightError(f"{path} is damaged, or not a file of packed weights.")
    return header, start


def _is_sound(path: Path) -> bool:
    try:
        return _has_content(path, *_header(path))
    except (OSError, WeightError):
        return False


def _has_content(path: Path, header: dict[str, Any], start: int) -> bool:
    """Return whether the tensors are as they were written, to the last byte."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(1 << 24):
            digest.update(block)
    return bool(digest.hexdigest() == header["__metadata__"]["digest"])


def _note_use(path: Path, header: dict[str, Any]) -> None:
    now = int(time.time()) * 10**9 + _seal(header)
    os.utime(path, ns=(now, now))


def _seal(header: dict[str, Any]) -> int:
    """Return nanoseconds in whole microseconds, the resolution of some disks."""
    return int(header["__metadata__"]["header"], 16) % 10**6 * 1000


def _digest_of_header(path: Path, header: dict[str, Any]) -> str:
    known = {name: value for name, value in header["__metadata__"].items() if name != "header"}
    return _digest([path.stem, header | {"__metadata__": known}])


def _digest(value: Any) -> str:
    return blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _write(path: Path, metadata: Mapping[str, str], names: Sequence[str], pack: Callable[[str], StoredTensor]) -> None:
    """Write tensors one after another, and at the end the header before them."""
    hidden = path.with_name(f".{path.name}.{os.urandom(8).hex()}.partial")
    # An entry of the header takes its name and at most 256 bytes.
    room = 8 + 1024 + sum(map(len, metadata.values())) + sum(len(name) + 256 for name in names)
    start = -(-room // ALIGNMENT) * ALIGNMENT
    try:
        with hidden.open("xb") as file:
            file.seek(start)
            header = _write_tensors(file, names, pack)
            header["__metadata__"] |= metadata
            header["__metadata__"]["header"] = _digest_of_header(path, header)
            text = json.dumps(header).encode().ljust(start - 8)
            file.seek(0)
            file.write((start - 8).to_bytes(8, "little") + text)
            file.flush()
            # Without this the file could have its name before its content after a loss of power.
            os.fsync(file.fileno())
        _note_use(hidden, header)
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
            "dtype": DTYPES[packed.format],
            "shape": list(packed.array.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    return header | {"__metadata__": {"digest": digest.hexdigest()}}
