"""A file of texts, of a table, of JSON or of words in columns → records, each with where it stands and what is wrong.

It does not know what a record is for: the command line makes inputs of tasks of them, training examples.
"""

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

from triform.errors import InputError

Format = TypeVar("Format", bound=StrEnum)

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


class Found(NamedTuple):
    """What stands at one place of a file."""

    where: str
    """The file and the line on which it begins."""
    value: Any
    error: str | None = None
    is_blank: bool = False
    """Whether it is a line that holds no record."""


class Source:
    """The lines of a file, packed with gzip or not, or of standard input."""

    def __init__(self, path: str, stack: ExitStack, *, encoding: str = "utf-8") -> None:
        self.name = "standard input" if path == "-" else path
        self.encoding = encoding
        self.packed_size: int | None = None
        """Bytes on disk; None where that is not known."""
        if path == "-":
            self._raw = self._lines = cast(IO[bytes], sys.stdin.buffer)
            return
        try:
            self._raw = self._lines = stack.enter_context(open(path, "rb"))  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path} cannot be opened: {error.strerror}.") from error
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

    def texts(self) -> Iterator[Found]:
        """The text of each line, without its end."""
        for found in self._decoded():
            yield found if found.error else found._replace(value=found.value.removesuffix("\n").removesuffix("\r"))

    def values(self) -> Iterator[Found]:
        """The JSON value of each line."""
        for found in self._decoded():
            if found.error is None and found.value.strip():
                yield json_value(found.where, found.value)
            else:
                yield found._replace(is_blank=found.error is None)

    def records(
        self, form: InputFormat, check_header: Callable[[Sequence[str], str], None] = lambda header, where: None
    ) -> Iterator[Found]:
        """Each record of a table below its header, as a dictionary; a quoted cell may hold line breaks.

        Arguments:
            form: csv or tsv.
            check_header: called with the header and where it stands.

        Raises:
            InputError: the table is broken, so that where its next record begins is not known.
        """
        csv.field_size_limit(LONGEST_LINE)
        reader = csv.reader(self._all_decoded(), delimiter="\t" if form is InputFormat.TSV else ",", strict=True)
        header: list[str] | None = None
        while True:
            where = f"{self.name}, line {reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError(f"{where}: no {form}: {error}. Is a quote left open, or not doubled?") from error
            if not cells:
                yield Found(where, None, is_blank=True)
            elif header is None:
                header = cells
                check_header(header, where)
            elif len(cells) != len(header):
                yield Found(where, None, f"{count(len(cells), 'cell')}, where the header has {len(header)}.")
            else:
                yield Found(where, dict(zip(header, cells, strict=True)))

    def sentences(self) -> Iterator[Found]:
        """Words in columns, one on each line, a blank line behind each sentence, as CoNLL has them.

        A dictionary of `tokens`, the first column, and `tags`, the last.
        """
        words: list[list[str]] = []
        begin = ""
        for found in self.texts():
            cells = (found.value or "").split()
            if found.error:
                yield found
            elif not cells or cells[0] == "-DOCSTART-":
                yield from _sentence(begin, words)
                words = []
            elif words and len(cells) != len(words[0]):
                error = f"{count(len(cells), 'column')}, where its sentence has {len(words[0])}."
                yield Found(found.where, None, error)
            else:
                begin = begin if words else found.where
                words.append(cells)
        yield from _sentence(begin, words)

    def matches(self, pattern: re.Pattern[str]) -> Iterator[Found]:
        """Each line, taken apart by the named groups of a pattern that fits all of it."""
        for found in self.texts():
            if found.error:
                yield found
            elif match := pattern.fullmatch(found.value):
                yield found._replace(value=match.groupdict())
            else:
                yield Found(found.where, None, f"the pattern {pattern.pattern!r} does not fit {found.value[:100]!r}.")

    def _decoded(self) -> Iterator[Found]:
        """Each line, with its end, as text."""
        for number, line in enumerate(self.lines(), 1):
            where = f"{self.name}, line {number}"
            try:
                text = line.decode(self.encoding)
            except UnicodeDecodeError as error:
                expected = self.encoding.upper()
                yield Found(
                    where, None, f"not {expected}: {error.reason} at byte {error.start}. Convert the file first."
                )
            else:
                yield Found(where, text.removeprefix("\ufeff") if number == 1 else text)

    def _all_decoded(self) -> Iterator[str]:
        """The lines of a table.

        Raises:
            InputError: a line cannot be decoded, so that what it does to the record is not known.
        """
        for found in self._decoded():
            if found.error:
                raise InputError(f"{found.where}: {found.error}")
            yield found.value


def _sentence(where: str, words: list[list[str]]) -> Iterator[Found]:
    if words:
        yield Found(where, {"tokens": [cells[0] for cells in words], "tags": [cells[-1] for cells in words]})


def json_value(where: str, text: str) -> Found:
    """What a line of JSON holds."""
    try:
        return Found(where, json.loads(text))
    except (ValueError, RecursionError) as error:
        return Found(where, None, f"not JSON: {error}.")


def format_of(path: str, known: type[Format]) -> Format | None:
    """The format that a file's name says, if it is known.

    Raises:
        InputError: .json, which is one value and no rows.
    """
    suffix = Path(path.removesuffix(".gz")).suffix.lower().removeprefix(".")
    if suffix == "json":
        raise InputError(
            f"{path}: rows are read from .txt, .csv, .tsv and .jsonl. If each of its lines is a JSON value, "
            "say that its format is jsonl."
        )
    return known(suffix) if suffix in tuple(known) else None


def count(number: int, what: str) -> str:
    """So many of something."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
