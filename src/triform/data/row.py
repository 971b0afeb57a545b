"""The row of a file: a text, an example or an input."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row of a file: a text with a label, a sentence with a translation, an input of a task."""

    values: Any
    """A mapping of named values; a text or another JSON value where the file gives no names; None beside an error."""
    where: str
    """The file and the line where the row begins, for messages."""
    error: str | None = None
    """The reason why the row cannot be read; None for a valid row."""


def count(number: int, noun: str) -> str:
    """Write a number and a noun: "1 cell", "2,000 cells"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
