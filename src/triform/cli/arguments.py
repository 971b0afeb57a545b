"""Arguments of `triform run` → rows of texts, and the columns of a file."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from triform.bulk.columns import TEXT_FIELDS, InputColumns
from triform.bulk.inputs import parse_input
from triform.data import FileFormat, Row
from triform.errors import InputError
from triform.tasks import Task


def parse_columns(task: type[Task[Any, Any]], given: Sequence[str]) -> dict[str, str]:
    """Parse [FIELD=]NAME to field → column.

    Raises:
        InputError: two columns for one field.
    """
    chosen: dict[str, str] = {}
    for item in given:
        field, equals, column = item.partition("=")
        if not equals or field not in (task.fields or TEXT_FIELDS):
            field, column = "text", item
        if field in chosen:
            raise InputError(f"--column {item}: {field} is read from {chosen[field]!r} already.")
        chosen[field] = column
    return chosen


def read_texts(texts: Sequence[str], columns: InputColumns, format: FileFormat | None) -> Iterator[Row]:
    """Read the arguments as rows: as JSON for a task of objects or with --input-format jsonl, else letter by letter."""
    for number, text in enumerate(texts, 1):
        where = f"text {number}"
        if columns.reads_objects or format is FileFormat.JSONL:
            yield parse_input(text, where, columns)
            continue
        if _looks_like_json(text):
            print(f"warning: {where} is read letter by letter. Is it JSON? Add --input-format jsonl.", file=sys.stderr)
        yield Row(text, where)


def _looks_like_json(text: str) -> bool:
    """Tell whether a text is an object or a list of JSON, such as a conversation."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
