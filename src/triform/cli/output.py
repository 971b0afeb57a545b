"""Where answers go: standard output, or a file that appears when it is whole and whose beginning outlives a kill.

Beside OUTPUT, a run keeps OUTPUT.part, the answers so far, and OUTPUT.part.json, what began them, how many rows are
answered, how many bytes these take, and a digest of the rows. The answers reach the operating system before the account
of them is replaced in one step, so that whenever the process ends the account is true of the first bytes of the other
file; whatever lies behind them is cut off. A machine that loses power may lose both.
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from triform.cli.forms import Form
from triform.cli.rows import Row
from triform.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


class Output(ABC):
    """Takes answers in the order of their rows."""

    rows = 0
    """How many are answered for good."""
    failed = 0
    """How many of those have an error for an answer."""

    @abstractmethod
    def write(self, rows: Sequence[Row], answers: Sequence[bytes], *, failed: int = 0, final: bool = True) -> None:
        """Add answers, which are seen at once; those that are not `final` are given again by a resumed run."""

    def skip_answered(self, rows: Iterator[Row], chunk: int) -> list[Row]:
        """Read past the rows that are answered; return those of a chunk that is not answered to its end.

        Raises:
            InputError: they are other rows than those that were answered.
        """
        return []

    def finish(self) -> None:  # noqa: B027  a stream has no end to write
        """All rows are answered."""

    def close(self) -> None:  # noqa: B027  nor is it ours to close
        """The run has ended, well or not."""

    def how_to_go_on(self) -> str:
        """What a person can do with a run that ended early."""
        return ""


class StreamOutput(Output):
    """Standard output, or a device: what is written is gone."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, rows: Sequence[Row], answers: Sequence[bytes], *, failed: int = 0, final: bool = True) -> None:
        self._stream.write(b"".join(answers))
        self._stream.flush()
        self.rows += len(rows)
        self.failed += failed


def is_whole(path: Path) -> bool:
    """Whether a run has written this file to its end, and none has begun to replace it."""
    return path.is_file() and not _beside(path, ".part").exists()


def check_untouched(path: Path) -> None:
    """Whether a new run may write this file.

    Raises:
        InputError: it is there, whole or unfinished.
    """
    part = _beside(path, ".part")
    if part.exists():
        raise InputError(
            f"--output {path}: an unfinished run left {part.name} beside it. Go on with --resume, or begin again with "
            "--overwrite."
        )
    if path.is_file():
        raise InputError(f"--output {path} is there already. Name another file, or replace it: --overwrite.")


def _beside(path: Path, ending: str) -> Path:
    # A link stays a link, and its file is what is replaced.
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + ending)


class FileOutput(Output):
    """A file that another run can go on with.

    Arguments:
        path: where the answers are when all are there.
        form: how they are written.
        began: what the answers depend on besides the rows; a run that goes on must agree with it.
        resume: whether to go on with answers that are there; else they are replaced.

    Raises:
        InputError: what is there does not fit this run, another process writes it, or the file cannot be opened.
    """

    def __init__(self, path: Path, form: Form, began: Mapping[str, Any], *, resume: bool) -> None:
        self.path = _beside(path, "")
        self._part, self._account = _beside(path, ".part"), _beside(path, ".part.json")
        self._form, self._began = form, dict(began)
        self._seen = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._answered_digest = self._digest.hexdigest()
        goes_on = resume and self._part.exists() and self._account.exists()
        try:
            self._file = open(self._part, "r+b" if self._part.exists() else "x+b")  # noqa: SIM115
        except OSError as error:
            raise InputError(f"--output {path} cannot be opened: {error.strerror}.") from error
        self._lock()
        if resume and not goes_on and self._file.seek(0, os.SEEK_END) > len(form.head):
            raise InputError(f"{self._part} has no {self._account.name} beside it. Begin again with --overwrite.")
        if goes_on:
            self._go_on()
        else:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(form.head)
            self._save()

    def write(self, rows: Sequence[Row], answers: Sequence[bytes], *, failed: int = 0, final: bool = True) -> None:
        self._file.write(b"".join(answers))
        self._file.flush()
        self._seen += len(rows)
        if not final:
            return
        self.rows += len(rows)
        self.failed += failed
        for row in rows:
            self._add_to_digest(row)
        self._answered_digest = self._digest.hexdigest()
        self._save()

    def skip_answered(self, rows: Iterator[Row], chunk: int) -> list[Row]:
        kept: list[Row] = []
        for number, row in enumerate(islice(rows, self.rows)):
            self._add_to_digest(row)
            if number % chunk == 0:
                kept = []
            kept.append(row)
        if self._digest.hexdigest() != self._answered_digest:
            raise InputError(
                f"--resume: the first {self.rows:,} rows of the input are not those that {self._part} answers. "
                "Give the same input, or begin again with --overwrite."
            )
        return kept if self.rows % chunk else []

    def finish(self) -> None:
        self._form.finish(self._file, self.rows)
        self._file.close()
        os.replace(self._part, self.path)
        self._account.unlink()

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            if not self._seen:
                self._part.unlink()
                self._account.unlink()

    def how_to_go_on(self) -> str:
        return f"{self._seen:,} rows are answered, in {self._part}. The same command with --resume goes on."

    def _lock(self) -> None:
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._part.exists():
                raise BlockingIOError("it was finished just now")
        except BlockingIOError as error:
            raise InputError(f"--output {self.path} is being written by another process. Wait for it.") from error

    def _go_on(self) -> None:
        try:
            account = json.loads(self._account.read_text(encoding="utf-8"))
            began, size = account["began"], account["bytes"]
            self.rows, self.failed, self._answered_digest = account["rows"], account["failed"], account["digest"]
            self._seen = self.rows
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._account} is damaged: {error!r}. Begin again with --overwrite.") from error
        changed = [name for name in sorted({*began, *self._began}) if began.get(name) != self._began.get(name)]
        if changed:
            changes = "; ".join(f"{name} was {began.get(name)!r}, is {self._began.get(name)!r}" for name in changed)
            raise InputError(
                f"--resume: {self._part} was begun otherwise: {changes}. Run it as it began, or begin again with "
                "--overwrite."
            )
        if self._file.seek(0, os.SEEK_END) < size:
            raise InputError(f"{self._part} is shorter than {self._account} says. Begin again with --overwrite.")
        self._file.seek(size)
        self._file.truncate()

    def _add_to_digest(self, row: Row) -> None:
        self._digest.update(repr((row.value, row.error)).encode("utf-8", "backslashreplace"))

    def _save(self) -> None:
        self._file.flush()
        account = {
            "began": self._began,
            "rows": self.rows,
            "failed": self.failed,
            "bytes": self._file.tell(),
            "digest": self._answered_digest,
        }
        written = self._account.with_name(self._account.name + ".new")
        written.write_text(json.dumps(account, ensure_ascii=False, indent=1), encoding="utf-8")
        os.replace(written, self._account)
