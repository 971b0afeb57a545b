"""Columns of a table, or keys of an object → the input of a task."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from triform.errors import InputError
from triform.tasks import Task

TEXT_FIELDS = {"text": str, "text_pair": str}
"""Fields of tasks whose input is a plain text, or for some tasks a pair of texts."""


class InputColumns:
    """Makes the input of a task from the columns of a table, or from the keys of an object.

    Arguments:
        task: the task that reads the inputs.
        chosen: field of the task → its column. A task of plain texts has the fields text and text_pair.

    Raises:
        InputError: the task has no such field.
    """

    def __init__(self, task: type[Task[Any, Any]], chosen: Mapping[str, str]) -> None:
        self.reads_objects = bool(task.fields)
        self.chosen = dict(chosen)
        self.hint = f" {task.name} reads objects such as {task.example}" if task.fields else ""
        self._fields = dict(task.fields or TEXT_FIELDS)
        for field, column in chosen.items():
            if field not in self._fields:
                fields = ", ".join(self._fields)
                raise InputError(f"column {column!r}: {task.name} has no field {field}. Choose a field of {fields}.")
        # Empty where the header of a table decides.
        self._columns = {field: chosen.get(field, field) for field in task.fields} or dict(chosen)

    def check_header(self, header: Sequence[str], where: str) -> None:
        """Find the columns in a header.

        Without a choice, a plain text is in the column text or in the only column.

        Raises:
            InputError: a column is missing.
        """
        if not self._columns:
            only = {"text": header[0]} if len(header) == 1 else {}
            self._columns = {field: field for field in self._fields if field in header} or only
        missing = [column for column in self._columns.values() if column not in header]
        if missing or ("text" not in self._columns and not self.reads_objects):
            remedy = f"the columns of {', '.join(self._fields)}" if self.reads_objects else "the column to read"
            lack = f"; there is no {', '.join(missing)}" if missing else ""
            raise InputError(f"{where}: the columns are {', '.join(header)}{lack}. Name {remedy}.")

    def read_record(self, record: Mapping[str, str]) -> Any:
        """Make the input from a record of a table; a cell holds a list of texts as JSON.

        Raises:
            InputError: a cell that should hold a list is not JSON.
        """
        values: dict[str, Any] = {}
        for field, column in self._columns.items():
            values[field] = record[column]
            if self._fields[field] is not str:
                try:
                    values[field] = json.loads(record[column])
                except (ValueError, RecursionError) as error:
                    raise InputError(f'{column}: expected a list such as ["one", "two"], not JSON: {error}.') from error
        return _input(values)

    def read_object(self, value: Any) -> Any:
        """Make the input from a JSON value: the value itself, or the values of the chosen keys.

        Raises:
            InputError: keys were chosen, and the value is not an object or lacks a key.
        """
        if not self.chosen:
            return value
        if not isinstance(value, Mapping):
            raise InputError(f"a column is a key of an object, got {value!r}.")
        missing = [column for column in self._columns.values() if column not in value]
        if missing:
            raise InputError(f"there is no {', '.join(missing)} among {', '.join(map(str, value))}.")
        return _input({field: value[column] for field, column in self._columns.items()})


def _input(values: dict[str, Any]) -> Any:
    return values["text"] if set(values) == {"text"} else values
