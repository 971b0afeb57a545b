"""Rows of a file → rows of inputs of a task; a bad row carries an error."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from triform.bulk.columns import InputColumns
from triform.data import FileFormat, Row, Source, find_format, read_rows
from triform.data.formats import parse_json
from triform.data.row import count
from triform.errors import InputError

INPUT_FORMATS = (FileFormat.TXT, FileFormat.CSV, FileFormat.TSV, FileFormat.JSONL)
"""Formats that can hold inputs of tasks."""


def read_inputs(source: Source, columns: InputColumns, format: FileFormat | None = None) -> Iterator[Row]:
    """Read the inputs in a file lazily; `Row.values` is the input of the task.

    Arguments:
        source: the opened file.
        columns: the way from a record or an object to an input.
        format: one of `INPUT_FORMATS`; by default as the file's name says, else txt, or jsonl for a task of objects.

    Raises:
        InputError: the file is empty or damaged, or lacks the columns.

    Warns:
        UserWarning: blank lines held no row.
    """
    format = format or find_format(source.name, INPUT_FORMATS)
    match format or (FileFormat.JSONL if columns.reads_objects else FileFormat.TXT):
        case FileFormat.TXT:
            if columns.chosen:
                raise InputError(
                    f"{source.name} is read as a text on each line, which has no columns. Name the input format if it "
                    "is another."
                )
            return read_rows(source, FileFormat.TXT)
        case FileFormat.JSONL:
            return _read(source, FileFormat.JSONL, columns, columns.read_object)
        case table:
            return _read(source, table, columns, columns.read_record)


def parse_input(text: str, where: str, columns: InputColumns) -> Row:
    """Parse a JSON value to the row of an input."""
    return _with_input(parse_json(text, where), columns, columns.read_object)


def _read(source: Source, format: FileFormat, columns: InputColumns, make_input: Callable[[Any], Any]) -> Iterator[Row]:
    for row in read_rows(source, format, check_header=columns.check_header):
        yield _with_input(row, columns, make_input)
    if source.num_blank_lines:
        warnings.warn(f"{source.name}: {count(source.num_blank_lines, 'blank line')} held no row.", stacklevel=2)


def _with_input(row: Row, columns: InputColumns, make_input: Callable[[Any], Any]) -> Row:
    if row.error:
        return Row(None, row.where, row.error + columns.hint * row.error.startswith("not JSON"))
    try:
        return Row(make_input(row.values), row.where)
    except InputError as error:
        return Row(None, row.where, str(error))
