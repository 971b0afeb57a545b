"""File formats and their readers: lines of a file → rows.

A reader knows nothing of the purpose of a row: `bulk/` makes inputs of tasks from rows, `training/` makes examples.
"""

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self

from triform.data.row import Row, count
from triform.data.source import LONGEST_LINE, LONGEST_RECORD, Source
from triform.errors import InputError


class FileFormat(StrEnum):
    """The way in which a file holds its rows."""

    TXT = "txt"
    """A text on each line; a blank line is an empty text."""
    CSV = "csv"
    """A table with a header and commas between cells; a quoted cell may hold line breaks."""
    TSV = "tsv"
    """A table with a header and tabs between cells: each line is a record, and a quotation mark is a letter."""
    JSONL = "jsonl"
    """A JSON value on each line."""
    CONLL = "conll"
    """A word on each line with its tag in the last column, a blank line behind each sentence: `tokens` and `tags`."""


CheckHeader = Callable[[Sequence[str], str], None]
"""Receives the header of a table and its place, and raises InputError where a column is missing."""


def _accept_any(header: Sequence[str], where: str) -> None:
    """Accept every header."""


def read_rows(source: Source, format: FileFormat, *, check_header: CheckHeader = _accept_any) -> Iterator[Row]:
    """Read the rows of a file lazily.

    A blank line of a table or of JSON holds no row; `source.num_blank_lines` counts them. A row that cannot be read
    carries its error.

    Arguments:
        source: the opened file.
        format: its format.
        check_header: called with the header of a table before the first row.

    Raises:
        InputError: the file is empty or damaged, or a table is broken, so that the next row cannot be found.
    """
    match format:
        case FileFormat.TXT:
            return _read_texts(source)
        case FileFormat.JSONL:
            return _read_json_values(source)
        case FileFormat.CONLL:
            return _read_sentences(source)
        case FileFormat.CSV | FileFormat.TSV:
            return _read_table(source, format, check_header)


def find_format(path: str | Path, known: Collection[FileFormat] = tuple(FileFormat)) -> FileFormat | None:
    """Find a format by the ending of a file name; None for an ending without a known format.

    Raises:
        InputError: the name ends in .json, which is one value instead of rows.
    """
    suffix = Path(str(path).removesuffix(".gz")).suffix.lower().removeprefix(".")
    if suffix == "json":
        raise InputError(
            f"{path}: rows are read from .txt, .csv, .tsv and .jsonl. If each of its lines is a JSON value, "
            "say that its format is jsonl."
        )
    return FileFormat(suffix) if suffix in tuple(known) else None


def parse_json(text: str, where: str) -> Row:
    """Parse a JSON value to a row; a text that is not JSON becomes a row with an error."""
    try:
        return Row(json.loads(text), where)
    except (ValueError, RecursionError) as error:
        return Row(None, where, f"not JSON: {error}.")


def read_matches(source: Source, pattern: re.Pattern[str]) -> Iterator[Row]:
    """Read each line as the named groups of a pattern for the whole line."""
    for row in _read_texts(source):
        if row.error:
            yield row
        elif match := pattern.fullmatch(row.values):
            yield Row(match.groupdict(), row.where)
        else:
            yield Row(None, row.where, f"the pattern {pattern.pattern!r} does not fit {row.values[:100]!r}.")


def _read_texts(source: Source) -> Iterator[Row]:
    for row in source.lines():
        text = None if row.error else row.values.removesuffix("\n").removesuffix("\r")
        if text is not None and "\r" in text:
            # Other programs end a line there, and a file of Classic Mac OS would be one text.
            problem = "a carriage return (\\r) within the line. Convert the ends of lines to \\n, or write JSON lines."
            yield Row(None, row.where, problem)
        else:
            yield row if text is None else Row(text, row.where)


def _read_json_values(source: Source) -> Iterator[Row]:
    for row in source.lines():
        if row.error:
            yield row
        elif row.values.strip():
            yield parse_json(row.values, row.where)
        else:
            source.num_blank_lines += 1


def _read_table(source: Source, format: FileFormat, check_header: CheckHeader) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_LINE)
    # Most published TSV is lines with tabs, and a sentence may begin with a quotation mark.
    dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if format is FileFormat.TSV else {"delimiter": ","}
    lines = _RecordLines(source)
    reader = csv.reader(lines, strict=True, **dialect)
    header: list[str] | None = None
    while True:
        where = f"{source.name}, line {reader.line_num + 1}"
        lines.begin_record(where)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{where}: not {format}: {error}. Is a quote left open, or not doubled?") from error
        if not cells:
            source.num_blank_lines += 1
        elif header is None:
            header = cells
            _check_names(header, where)
            check_header(header, where)
        elif len(cells) != len(header):
            yield Row(None, where, f"{count(len(cells), 'cell')}, where the header has {len(header)}.")
        elif format is FileFormat.TSV and (quoted := next(filter(_is_quoted, cells), None)):
            problem = f"{quoted[:100]!r} is quoted as in CSV, and a TSV has no quotes. Convert the file to CSV."
            yield Row(None, where, problem)
        else:
            yield Row(dict(zip(header, cells, strict=True)), where)


def _check_names(header: Sequence[str], where: str) -> None:
    """Refuse a header with a name twice; columns without a name are ignored."""
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise InputError(f"{where}: the header names {twice[0]!r} more than once. Name each column once.")


def _is_quoted(cell: str) -> bool:
    """Check whether a program has quoted a cell: within quotation marks there are only doubled ones."""
    inside = cell[1:-1]
    return cell[:1] == cell[-1:] == '"' and '""' in inside and '"' not in inside.replace('""', "")


class _RecordLines:
    """The lines of a table: an iterator that bounds the lines of one record.

    Raises:
        InputError: a line cannot be decoded, so that the end of its record is not known; or a record is too long.
    """

    def __init__(self, source: Source) -> None:
        self._rows = source.lines()
        self._where, self._size = "", 0

    def begin_record(self, where: str) -> None:
        """Begin to count the characters of a record."""
        self._where, self._size = where, 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        row = next(self._rows)
        if row.error:
            raise InputError(f"{row.where}: {row.error}")
        line: str = row.values
        self._size += len(line)
        check_record(self._size, self._where)
        return line


def check_record(size: int, where: str) -> None:
    """Raise InputError if a record of several lines has too many characters."""
    if size > LONGEST_RECORD:
        raise InputError(f"{where}: a record of more than {LONGEST_RECORD >> 20} MiB. Is a quote left open?")


def _read_sentences(source: Source) -> Iterator[Row]:
    """Read sentences of CoNLL: `tokens` is the first column, `tags` the last."""
    words: list[list[str]] = []
    begin, size = "", 0
    for row in _read_texts(source):
        size += len(row.values or "")
        check_record(size, begin)
        cells = re.findall(r"[^ \t]+", row.values or "")  # a space of Unicode may stand within a word
        if row.error:
            yield row
        elif not cells or cells[0] == "-DOCSTART-":
            yield from _sentence(words, begin)
            words, size = [], 0
        elif words and len(cells) != len(words[0]):
            yield Row(None, row.where, f"{count(len(cells), 'column')}, where its sentence has {len(words[0])}.")
        else:
            begin = begin if words else row.where
            words.append(cells)
    yield from _sentence(words, begin)


def _sentence(words: list[list[str]], where: str) -> Iterator[Row]:
    if words:
        yield Row({"tokens": [cells[0] for cells in words], "tags": [cells[-1] for cells in words]}, where)
