"""Which columns of a table, or keys of an object, make an input of a task."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from triform.errors import InputError
from triform.tasks import Task

TEXT_FIELDS = {"text": str, "text_pair": str}
"""Of tasks that read plain texts, some of which read pairs as well."""


class Columns:
    """The way from a record to an input.

    Arguments:
        task: what reads the inputs.
        given: NAME, the column of a plain text; or FIELD=NAME, the column of one field of the task's objects.

    Raises:
        InputError: a field that the task does not have, or a column named twice.
    """

    def __init__(self, task: type[Task[Any, Any]], given: Sequence[str]) -> None:
        self._reads_objects = bool(task.fields)
        self._fields = dict(task.fields or TEXT_FIELDS)
        self.chosen: dict[str, str] = {}
        """Field → column, as far as `given` names them."""
        self.hint = f" {task.name} reads objects such as {task.example}" if task.fields else ""
        for item in given:
            field, parted, column = item.partition("=")
            if not parted or field not in self._fields:
                field, column = "text", item
            if field not in self._fields:
                raise InputError(f"--column {item}: expected FIELD=NAME, for the fields {', '.join(self._fields)}.")
            if field in self.chosen:
                raise InputError(f"--column {item}: {field} is read from {self.chosen[field]!r} already.")
            self.chosen[field] = column
        if self._reads_objects:
            self._columns = {field: self.chosen.get(field, field) for field in self._fields}
        else:
            self._columns = dict(self.chosen)

    def check_header(self, header: Sequence[str], where: str) -> None:
        """Find the columns in a header; plain texts stand in the only one, or in the one named text.

        Raises:
            InputError: one is missing, or named twice in the header.
        """
        if not self._columns:
            only = {"text": header[0]} if len(header) == 1 else {}
            self._columns = {field: field for field in self._fields if field in header} or only
        missing = [column for column in self._columns.values() if column not in header]
        if missing or ("text" not in self._columns and not self._reads_objects):
            fields = ", ".join(f"--column {field}=NAME" for field in self._fields if self._reads_objects)
            raise InputError(
                f"{where}: the columns are {', '.join(header)}{'; there is no ' if missing else ''}"
                f"{', '.join(missing)}. Name what to read with {fields or '--column NAME'}."
            )
        twice = [column for column in self._columns.values() if list(header).count(column) > 1]
        if twice:
            raise InputError(f"{where}: the header names {twice[0]!r} more than once. Name each column once.")

    def of_record(self, record: Mapping[str, str]) -> Any:
        """The input in a record of a table; a list of texts is written in its cell as JSON.

        Raises:
            InputError: a cell that should hold a list holds no JSON.
        """
        values: dict[str, Any] = {}
        for field, column in self._columns.items():
            values[field] = record[column]
            if self._fields[field] is not str:
                try:
                    values[field] = json.loads(record[column])
                except (ValueError, RecursionError) as error:
                    raise InputError(f'{column}: expected a list such as ["one", "two"], not JSON: {error}.') from error
        return self._input(values)

    def of_object(self, value: Any) -> Any:
        """The input in a JSON value: as it is, or where columns were named the values of those keys.

        Raises:
            InputError: it is no object, or has no such key.
        """
        if not self.chosen:
            return value
        if not isinstance(value, Mapping):
            raise InputError(f"--column is for objects, got {value!r}.")
        missing = [column for column in self._columns.values() if column not in value]
        if missing:
            raise InputError(f"there is no {', '.join(missing)} among {', '.join(map(str, value))}.")
        return self._input({field: value[column] for field, column in self._columns.items()})

    def _input(self, values: dict[str, Any]) -> Any:
        return values["text"] if set(values) == {"text"} else values
