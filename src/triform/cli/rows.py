"""A file of texts, of a table or of JSON → rows, one after another; a bad row says so and where it stands."""

import csv
import gzip
import json
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

from triform.cli.columns import Columns
from triform.errors import InputError

LONGEST_LINE = 16 * 2**20
"""Bytes of a line, and characters of a cell: more is a file of another kind, or a quote that nobody closed."""


class InputFormat(StrEnum):
    """How a file holds its rows."""

    TXT = "txt"
    """A text on each line; a blank line is an empty text."""
    CSV = "csv"
    """A table with a header, parted by commas."""
    TSV = "tsv"
    """The same, parted by tabs."""
    JSONL = "jsonl"
    """A JSON value on each line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One input, or what is wrong with it."""

    where: str
    """The file and the line on which it begins."""
    value: Any
    error: str | None = None


class Source:
    """The lines of a file, packed with gzip or not, or of standard input."""

    def __init__(self, path: str, stack: ExitStack) -> None:
        self.name = "standard input" if path == "-" else path
        self.packed_size: int | None = None
        """Bytes on disk; None where that is not known."""
        if path == "-":
            self._raw = self._lines = cast(IO[bytes], sys.stdin.buffer)
            return
        try:
            self._raw = self._lines = stack.enter_context(open(path, "rb"))  # noqa: SIM115
        except OSError as error:
            raise InputError(f"--input {path} cannot be opened: {error.strerror}.") from error
        if Path(path).is_file():
            self.packed_size = Path(path).stat().st_size
        if path.endswith(".gz"):
            self._lines = BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=self._raw)))

    @property
    def position(self) -> int:
        """Bytes of `packed_size` that were read."""
        return self._raw.tell()

    def lines(self) -> Iterator[bytes]:
        """Each line, with its end.

        Raises:
            InputError: there is none, one is longer than any text, or the file is damaged.
        """
        number = 0
        try:
            while line := self._lines.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise InputError(f"{self.name}, line {number}: longer than {LONGEST_LINE >> 20} MiB. Is it text?")
                yield line
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.name} cannot be read beyond line {number}: {error}") from error
        if not number:
            raise InputError(f"{self.name} is empty: expected at least one row.")


def format_of(path: str, *, of_objects: bool) -> InputFormat:
    """The format that a file's name says; without a word of it, JSON for tasks that read objects, else texts.

    Raises:
        InputError: .json, which is one value and no rows.
    """
    suffix = Path(path.removesuffix(".gz")).suffix.lower().removeprefix(".")
    if suffix == "json":
        raise InputError(
            f"--input {path}: rows are read from .txt, .csv, .tsv and .jsonl. If each of its lines is a JSON value, "
            "say so with --input-format jsonl."
        )
    if suffix in ("csv", "tsv", "jsonl"):
        return InputFormat(suffix)
    return InputFormat.JSONL if of_objects else InputFormat.TXT


def read_rows(source: Source, form: InputFormat, columns: Columns) -> Iterator[Row]:
    """The rows of a file.

    Blank lines of a table or of JSON hold no row, and a warning counts them.

    Raises:
        InputError: the file is empty or damaged, or has not the columns that are needed.
    """
    if form is InputFormat.TXT:
        if columns.chosen:
            raise InputError(
                f"--column: {source.name} is read as a text on each line. Say --input-format if it is not."
            )
        return texts(source)
    return values(source, columns) if form is InputFormat.JSONL else table(source, form, columns)


def texts(source: Source) -> Iterator[Row]:
    """A row for each line."""
    for where, text, error in _decoded(source):
        yield Row(where, text.removesuffix("\n").removesuffix("\r"), error)


def values(source: Source, columns: Columns) -> Iterator[Row]:
    """A row for each JSON value."""
    blank = 0
    for where, text, error in _decoded(source):
        if error is None and not text.strip():
            blank += 1
        else:
            yield Row(where, None, error) if error else parse(where, text, columns)
    _warn_of_blank(source, blank)


def parse(where: str, text: str, columns: Columns) -> Row:
    """The row of a JSON value."""
    try:
        return Row(where, columns.of_object(json.loads(text)))
    except InputError as error:
        return Row(where, None, str(error))
    except (ValueError, RecursionError) as error:
        return Row(where, None, f"not JSON: {error}.{columns.hint}")


def table(source: Source, form: InputFormat, columns: Columns) -> Iterator[Row]:
    """A row for each record below the header; a quoted cell may hold line breaks."""
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(_all_decoded(source), delimiter="\t" if form is InputFormat.TSV else ",", strict=True)
    header: list[str] | None = None
    begin, blank = 1, 0
    while True:
        begin = reader.line_num + 1
        where = f"{source.name}, line {begin}"
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            # Where the next record begins is not known, so not even --on-error skip can go on.
            raise InputError(f"{where}: no {form}: {error}. Is a quote left open, or not doubled?") from error
        if not cells:
            blank += 1
        elif header is None:
            header = cells
            columns.check_header(header, where)
        elif len(cells) != len(header):
            yield Row(where, None, f"{_count(len(cells), 'cell')}, where the header has {len(header)}.")
        else:
            try:
                yield Row(where, columns.of_record(dict(zip(header, cells, strict=True))))
            except InputError as error:
                yield Row(where, None, str(error))
    _warn_of_blank(source, blank)


def _decoded(source: Source) -> Iterator[tuple[str, str, str | None]]:
    """(where, the line with its end, what is wrong) of each line."""
    for number, line in enumerate(source.lines(), 1):
        where = f"{source.name}, line {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            yield where, "", f"not UTF-8: {error.reason} at byte {error.start}. Convert the file first."
        else:
            yield where, text.removeprefix("\ufeff") if number == 1 else text, None


def _all_decoded(source: Source) -> Iterator[str]:
    """The lines of a table.

    Raises:
        InputError: a line is not UTF-8, so that what it does to the record is not known.
    """
    for where, text, error in _decoded(source):
        if error:
            raise InputError(f"{where}: {error}")
        yield text


def _warn_of_blank(source: Source, blank: int) -> None:
    if blank:
        warnings.warn(f"{source.name}: {_count(blank, 'blank line')} held no row.", stacklevel=2)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
