"""Records of a file → inputs of a task, one after another; a bad one says what is wrong and where it stands."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from triform.cli.columns import Columns
from triform.data.files import Found, InputFormat, Source, count, json_value
from triform.errors import InputError


@dataclass(frozen=True, slots=True)
class Row:
    """One input, or what is wrong with it."""

    where: str
    """The file and the line on which it begins."""
    value: Any
    error: str | None = None


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
    for found in source.texts():
        yield Row(found.where, found.value, found.error)


def values(source: Source, columns: Columns) -> Iterator[Row]:
    """A row for each JSON value."""
    for found in _not_blank(source, source.values()):
        yield _of_object(found, columns)


def parse(where: str, text: str, columns: Columns) -> Row:
    """The row of a JSON value."""
    return _of_object(json_value(where, text), columns)


def table(source: Source, form: InputFormat, columns: Columns) -> Iterator[Row]:
    """A row for each record below the header."""
    for where, record, error, _ in _not_blank(source, source.records(form, columns.check_header)):
        try:
            yield Row(where, None if error else columns.of_record(record), error)
        except InputError as bad:
            yield Row(where, None, str(bad))


def _of_object(found: Found, columns: Columns) -> Row:
    if found.error:
        return Row(found.where, None, found.error + columns.hint * found.error.startswith("not JSON"))
    try:
        return Row(found.where, columns.of_object(found.value))
    except InputError as error:
        return Row(found.where, None, str(error))


def _not_blank(source: Source, records: Iterable[Found]) -> Iterator[Found]:
    blank = 0
    for found in records:
        if found.is_blank:
            blank += 1
        else:
            yield found
    if blank:
        warnings.warn(f"{source.name}: {count(blank, 'blank line')} held no row.", stacklevel=2)
