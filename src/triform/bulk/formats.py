"""Formats of answers: text for people, JSON for programs, one NumPy array for vectors."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from triform.errors import InputError
from triform.tasks import Task


class AnswerFormat(ABC):
    """Encodes answers as bytes."""

    name: str
    head = b""
    """The bytes at the beginning of a file."""

    @abstractmethod
    def encode(self, answer: Any) -> bytes:
        """Encode one answer."""

    @abstractmethod
    def encode_error(self, message: str) -> bytes:
        """Encode the error of a row, in the place of its answer."""

    def finish(self, file: BinaryIO, num_rows: int) -> None:  # noqa: B027  most formats need no end
        """Complete a file of `num_rows` answers."""


class TextFormat(AnswerFormat):
    """Writes answers for people; one answer may take several lines."""

    name = "text"

    def encode(self, answer: Any) -> bytes:
        return (as_text(answer) + "\n").encode()

    def encode_error(self, message: str) -> bytes:
        return f"error: {message}\n".encode()


class JsonLinesFormat(AnswerFormat):
    """Writes a line of JSON for each answer."""

    name = "jsonl"

    def encode(self, answer: Any) -> bytes:
        return (as_json(answer) + "\n").encode()

    def encode_error(self, message: str) -> bytes:
        return self.encode({"error": message})


class NpyFormat(AnswerFormat):
    """Writes a float32 array (rows, width) in version 1.0 of NumPy's format; NaN for a row without an answer.

    Arguments:
        width: numbers of each answer.
    """

    name = "npy"

    def __init__(self, width: int) -> None:
        self._width = width
        self.head = self._header(0)

    def encode(self, answer: Any) -> bytes:
        return np.asarray(answer, "<f4").tobytes()

    def encode_error(self, message: str) -> bytes:
        return np.full(self._width, np.nan, "<f4").tobytes()

    def finish(self, file: BinaryIO, num_rows: int) -> None:
        file.seek(0)
        file.write(self._header(num_rows))

    def _header(self, num_rows: int) -> bytes:
        # Always 128 bytes, since the number of rows is known only at the end.
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({num_rows}, {self._width}), }}".ljust(117) + "\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def choose_format(task: Task[Any, Any], path: Path | None, *, json: bool = False) -> AnswerFormat:
    """Choose JSON for `json` or a .jsonl file, an array for a .npy file, else text.

    Raises:
        InputError: a .npy file for answers that are not vectors of one width, or for JSON.
    """
    suffix = "" if path is None else path.suffix.lower()
    if suffix == ".npy":
        empty = task.many([])
        if json or not isinstance(empty, np.ndarray):
            raise InputError(f"{path}: {task.name} {'as JSON ' * json}makes no array. Choose a .jsonl file.")
        return NpyFormat(empty.shape[1])
    return JsonLinesFormat() if json or suffix == ".jsonl" else TextFormat()


def as_json(answer: Any) -> str:
    """Write an answer as one line of JSON; a vector becomes a list."""
    return json.dumps(answer, ensure_ascii=False, default=_to_list)


def as_text(answer: Any) -> str:
    """Write an answer for people: a vector as numbers, an object as values, a list as lines."""
    if isinstance(answer, np.ndarray) and answer.ndim == 1:
        return " ".join(f"{number:.8g}" for number in answer.tolist())
    if isinstance(answer, list | np.ndarray):
        return "\n".join(map(as_text, answer))
    if isinstance(answer, dict):
        return "  ".join(
            f"({value} tokens dropped)" if name == "dropped_tokens" else _value_as_text(value)
            for name, value in answer.items()
        )
    return str(answer)


def _value_as_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value_as_text, value))
    if isinstance(value, dict):
        return ": ".join(map(_value_as_text, value.values()))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _to_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")
