"""What a file of examples gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """What a person said of one example: a text and its label, a sentence and its translation."""

    values: Mapping[str, Any]
    where: str
    """The file and the line, for errors."""
