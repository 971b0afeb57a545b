"""Writers of answers: to a stream, or to a file, resumable until the file is complete.

Beside OUTPUT, a run keeps OUTPUT.part, the answers so far, and OUTPUT.part.json, the account: settings of the run,
answered rows, their bytes, and a digest of the rows. The answers reach the operating system before the account is
replaced in one step. So the account is true of the first bytes of OUTPUT.part whenever the process ends, and a resumed
run cuts off the bytes behind them. A power failure may lose both files.
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from triform.bulk.formats import AnswerFormat
from triform.data import Row
from triform.errors import InputError, OutputError
from triform.replacing import writing
from triform.tasks.runner import take_chunk

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


NO_ROW = Row(None, "")


class IfExists(StrEnum):
    """The treatment of an existing output, complete or unfinished."""

    FAIL = "fail"
    """Refuse to run."""
    RESUME = "resume"
    """Continue an unfinished output; leave a complete one as it is."""
    OVERWRITE = "overwrite"
    """Start again."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts the rows of a run."""

    rows: int = 0
    """Rows that have an answer or an error, those of the resumed run included."""
    failed: int = 0
    """Rows that have an error in the place of an answer."""

    def plus(self, rows: int, failed: int) -> "Summary":
        """Add rows, and the failed rows among them."""
        return Summary(self.rows + rows, self.failed + failed)


class AnswerWriter(ABC):
    """Writes the answers of rows, in the order of the rows.

    Arguments:
        format: the encoding of the answers.
    """

    def __init__(self, format: AnswerFormat) -> None:
        self.format = format
        self.summary = Summary()
        """The rows that are written."""

    @property
    def note(self) -> str:
        """Count the answered rows, for the error of an early end; empty for a stream."""
        return ""

    @abstractmethod
    def write(self, rows: Sequence[Row], answers: Sequence[bytes], *, failed: int = 0, final: bool = True) -> None:
        """Write the answers of some rows, and flush them.

        Arguments:
            rows: the rows.
            answers: the encoded answer or error of each row.
            failed: how many of the rows have an error.
            final: whether a resumed run keeps these answers, or writes them again.
        """

    def skip_answered(self, rows: Iterator[Row], chunk: int) -> list[Row]:
        """Read past the answered rows; return those of a chunk that is answered in part.

        Raises:
            InputError: the rows differ from the rows of the interrupted run.
        """
        return []

    def finish(self) -> None:  # noqa: B027  a stream has no end to write
        """Complete the output: all rows are answered."""


class StreamWriter(AnswerWriter):
    """Writes to standard output, a pipe or a device; cannot be resumed."""

    def __init__(self, stream: BinaryIO, format: AnswerFormat) -> None:
        super().__init__(format)
        self._stream = stream

    def write(self, rows: Sequence[Row], answers: Sequence[bytes], *, failed: int = 0, final: bool = True) -> None:
        self._stream.write(b"".join(answers))
        self._stream.flush()
        self.summary = self.summary.plus(len(rows), failed)


class FileWriter(AnswerWriter):
    """Writes a file that a later run can resume.

    Arguments:
        path: the file, which appears when all answers are there.
        format: the encoding of the answers.
        settings: everything besides the rows that the answers depend on; a resumed run must have the same.
        resume: whether to continue with the answers of an unfinished run, or to replace them.

    Raises:
        InputError: an unfinished run does not fit this one, another process writes the file, or it cannot be opened.
    """

    def __init__(self, path: Path, format: AnswerFormat, settings: Mapping[str, Any], *, resume: bool) -> None:
        super().__init__(format)
        self._path, self._part, self._account = (_sibling(path, ending) for ending in ("", ".part", ".part.json"))
        self._settings = json.loads(json.dumps(settings, default=str))  # as the account gives them back
        self._final = Summary()
        self._digest = hashlib.blake2b(digest_size=16)
        self._answered_digest = self._digest.hexdigest()
        try:
            resumes = resume and self._part.exists() and self._account.exists()
            self._file = open(self._part, "r+b" if self._part.exists() else "x+b")  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
        try:
            self._lock()
            if resumes:
                self._resume()
            elif resume and self._file.seek(0, os.SEEK_END) > len(format.head):
                raise InputError(f"{self._part} has no {self._account.name} beside it. Overwrite it.")
            else:
                self._begin()
        except BaseException:
            with suppress(OSError):
                self._file.close()
            raise

    @property
    def note(self) -> str:
        place = f", in {self._part}. Resume the run to go on." if self.summary.rows else "."
        return f"{self.summary.rows:,} rows are answered{place}"

    def write(self, rows: Sequence[Row], answers: Sequence[bytes], *, failed: int = 0, final: bool = True) -> None:
        with self._writing():
            self._file.write(b"".join(answers))
            self._file.flush()
        self.summary = self.summary.plus(len(rows), failed)
        if final:
            self._final = self._final.plus(len(rows), failed)
            for row in rows:
                self._add_to_digest(row)
            self._answered_digest = self._digest.hexdigest()
            with self._writing():
                self._save_account()

    def skip_answered(self, rows: Iterator[Row], chunk: int) -> list[Row]:
        last: list[Row] = []
        left = self._final.rows
        while left and (part := take_chunk(islice(rows, left), chunk, row_values)):
            left -= len(part)
            last = part
            for row in part:
                self._add_to_digest(row)
        if self._digest.hexdigest() != self._answered_digest:
            raise InputError(
                f"{self._part}: the first {self._final.rows:,} rows of the input are not the rows that it answers. "
                "Resume with the same input, or overwrite it."
            )
        # A chunk that has ended takes no other row.
        return last if len(take_chunk(chain(last, [NO_ROW]), chunk, row_values)) > len(last) else []

    def finish(self) -> None:
        with self._writing():
            self.format.finish(self._file, self._final.rows)
            self._file.close()
            os.replace(self._part, self._path)
            self._account.unlink()

    def close(self) -> None:
        """Close the file after a run that has ended, well or not; without an answer it is removed."""
        if not self._file.closed:
            with suppress(OSError):  # bytes for which there was no room; the account does not count them
                self._file.close()
            if not self.summary.rows:
                self._remove()

    def _remove(self) -> None:
        for path in (self._part, self._account):
            with suppress(OSError):  # a name that is too long cannot be there
                path.unlink()

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self._path, "Make room, or name another file.")

    def _lock(self) -> None:
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._part.exists():
                raise BlockingIOError("it was finished just now")
        except BlockingIOError as error:
            raise InputError(f"{self._path} is being written by another process. Wait for it.") from error

    def _begin(self) -> None:
        try:
            with self._writing():
                self._file.seek(0)
                self._file.truncate()
                self._file.write(self.format.head)
                self._save_account()
        except OutputError:
            self._remove()
            raise

    def _resume(self) -> None:
        try:
            account = json.loads(self._account.read_text(encoding="utf-8"))
            began, size, self._answered_digest = account["settings"], account["bytes"], account["digest"]
            self.summary = self._final = Summary(account["rows"], account["failed"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._account} is damaged: {error!r}. Overwrite it.") from error
        changed = [name for name in sorted({*began, *self._settings}) if began.get(name) != self._settings.get(name)]
        if changed:
            changes = (f"{name} was {began.get(name)!r}, is {self._settings.get(name)!r}" for name in changed)
            raise InputError(
                f"{self._part} was begun with other settings: {'; '.join(changes)}. Resume with the same settings, or "
                "overwrite it."
            )
        if self._file.seek(0, os.SEEK_END) < size:
            raise InputError(f"{self._part} is shorter than {self._account} says. Overwrite it.")
        self._file.seek(size)
        self._file.truncate()

    def _add_to_digest(self, row: Row) -> None:
        self._digest.update(repr((row.values, row.error)).encode("utf-8", "backslashreplace"))

    def _save_account(self) -> None:
        self._file.flush()
        account = {
            "settings": self._settings,
            "rows": self._final.rows,
            "failed": self._final.failed,
            "bytes": self._file.tell(),
            "digest": self._answered_digest,
        }
        written = self._account.with_name(self._account.name + ".new")
        try:
            written.write_text(json.dumps(account, ensure_ascii=False, indent=1), encoding="utf-8")
            os.replace(written, self._account)
        except OSError:
            written.unlink(missing_ok=True)
            raise


def row_values(row: Row) -> Any:
    """Return the input in a row, for the size of a chunk."""
    return row.values


def needs_run(path: Path, if_exists: IfExists) -> bool:
    """Decide whether a run has to write an output; False for a complete output with `IfExists.RESUME`.

    Raises:
        InputError: the output exists, complete or unfinished, and should be neither resumed nor overwritten.
    """
    part = _sibling(path, ".part")
    if if_exists is IfExists.RESUME:
        return os.path.exists(part) or not os.path.isfile(path)
    if if_exists is IfExists.FAIL and os.path.exists(part):
        raise InputError(f"{path}: an unfinished run left {part.name} beside it. Resume the run, or overwrite it.")
    if if_exists is IfExists.FAIL and os.path.isfile(path):
        raise InputError(f"{path} is there already. Name another output, or overwrite it.")
    return True


def _sibling(path: Path, ending: str) -> Path:
    # A link stays a link; its target is replaced.
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + ending)
