"""Replacing the files of a folder together: a checkpoint is the old one or the new one, whenever the process ends.

    write all files into the folder STAGE → flush to disk → name the manifest → move the files → delete STAGE

From the moment that the manifest has its name, the new files count. A process that ends before leaves the old files as
they were. A process that ends later leaves the rest to the next program of Triform that opens the folder. Other
programs do not load a half of each: files that lead to others, config.json and the index of shards, are deleted before
the first file moves, and move last.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from triform import strict_json
from triform.errors import InputError, ModelNotFoundError, OutputError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

STAGE = ".triform-save"
MANIFEST = "manifest.json"
GATES = ("config.json", "adapter_config.json")
"""Files without which no program loads a folder."""


def make_folder(folder: Path) -> None:
    """Make a folder to write to, unless the folder exists.

    Raises:
        InputError: the folder cannot be made, for example because a file has this name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made a folder: {error.strerror}. Name another.") from error


@contextmanager
def replacing_files(folder: Path, *, stale: Iterable[str] = ()) -> Iterator[Path]:
    """Yield an empty folder to write files into, and then move them to a folder together.

    Arguments:
        folder: the target, made if necessary; its other files stay.
        stale: patterns of files of the target that belong to the old checkpoint and are deleted, unless replaced.

    Raises:
        InputError: the folder cannot be made, another process is writing to it, or a file would not lie inside of it.
        OutputError: the files cannot be written; the old ones are then as they were.
    """
    make_folder(folder)
    with _locked(folder, wait=False):
        finish_interrupted(folder)
        stage = folder / STAGE
        try:
            with writing(folder, "The files that it had are unchanged."):
                _remove(stage)
                stage.mkdir()
                yield stage
                _name_manifest(folder, stage, stale)
        except BaseException:
            _remove(stage)
            raise
        with writing(folder, f"The new files are in {stage}; the next load or save moves the rest."):
            _move(folder)


def finish_interrupted(folder: Path) -> None:
    """Move the rest of the files of a process that ended while it moved them.

    Raises:
        ModelNotFoundError: the files cannot be moved, or the manifest is damaged.
    """
    if not _has_manifest(folder):
        return
    try:
        with _locked(folder, wait=True):
            _move(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelNotFoundError(
            f"{folder}: writing a checkpoint was interrupted, and cannot be completed: {error}. Load it once with the "
            f"right to write there; or delete {folder / STAGE} and write the checkpoint again."
        ) from error


@contextmanager
def writing(path: Path, remains: str) -> Iterator[None]:
    """Turn an error of the system while a file is written into an OutputError.

    Arguments:
        path: the file or folder.
        remains: what is left on the disk, and how to go on.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        place = f" ({error.filename})" if error.filename not in (None, str(path)) else ""
        raise OutputError(f"{path} cannot be written: {error.strerror or error}{place}. {remains}") from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # named, since the library is imported where it is used
            raise
        raise OutputError(f"{path} cannot be written: {error}. {remains}") from error


def sync_to_disk(path: Path) -> None:
    """Wait until a file or a folder has reached the disk."""
    if os.name == "nt" and path.is_dir():  # Windows has no handles for folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        OutputError: the file cannot be written; the old one is then as it was.
    """
    hidden = path.with_name(f".{path.name}.{os.urandom(8).hex()}.partial")
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with writing(path, "The file that was there is unchanged."):
        try:
            with hidden.open("x", encoding="utf-8") as file:
                file.write(text)
            sync_to_disk(hidden)
            os.replace(hidden, path)
        finally:
            hidden.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder, which the system releases when a process ends."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise InputError(f"{folder} is being written by another process. Wait for it.") from error
        except OSError:
            pass  # some network disks have no locks
        yield
    finally:
        os.close(handle)


def _has_manifest(folder: Path) -> bool:
    stage = folder / STAGE
    return not stage.is_symlink() and (stage / MANIFEST).is_file()


def _name_manifest(folder: Path, stage: Path, stale: Iterable[str]) -> None:
    """Flush the files to disk, and write the names of new files and of files to delete: from now on they count."""
    paths = [path for path in sorted(stage.rglob("*")) if path.is_file()]
    for path in paths:
        sync_to_disk(path)
    files = [path.relative_to(stage).as_posix() for path in paths]
    for name in files:
        _check_place(folder, name)
    old = {path.relative_to(folder).as_posix() for pattern in stale for path in folder.glob(pattern)}
    write_json(stage / MANIFEST, {"files": files, "stale": sorted(old - {*files})})
    sync_to_disk(stage)


def _check_place(folder: Path, name: str) -> None:
    """Refuse a name that leads out of a folder, or that a folder has.

    Raises:
        InputError: a folder on the way is a link, or the file has the name of a folder.
    """
    parts = PurePosixPath(name).parts
    inner = [folder.joinpath(*parts[:count]) for count in range(1, len(parts))]
    if not parts or ".." in parts or PurePosixPath(name).is_absolute() or any(path.is_symlink() for path in inner):
        raise InputError(f"{folder / name} does not lie inside of {folder}. Write to another folder.")
    if (folder / name).is_dir() and not (folder / name).is_symlink():
        raise InputError(f"{folder / name} is a folder, where a file is to be written. Write to another folder.")


def _move(folder: Path) -> None:
    """Move the files of a named manifest; a second call goes on where the first ended."""
    stage = folder / STAGE
    if not _has_manifest(folder):  # another process has moved them
        return
    manifest = strict_json.read(stage / MANIFEST)
    files, stale = ([str(name) for name in manifest[key]] for key in ("files", "stale"))
    for name in (*files, *stale):
        _check_place(folder, name)
    gates = [name for name in files if PurePosixPath(name).name in GATES or name.endswith(".index.json")]
    for name in (*(gate for gate in gates if (stage / gate).exists()), *stale):
        (folder / name).unlink(missing_ok=True)
    sync_to_disk(folder)
    for name in (*(file for file in files if file not in gates), *gates):
        if (stage / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / name, folder / name)
    for place in {(folder / name).parent for name in files}:
        sync_to_disk(place)
    (stage / MANIFEST).unlink()
    _remove(stage)


def _remove(stage: Path) -> None:
    if stage.is_symlink():
        stage.unlink()
    elif stage.exists():
        import shutil  # seldom needed, and slow to import

        shutil.rmtree(stage)
