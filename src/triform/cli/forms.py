"""Answers as bytes: text for people, JSON for programs, one NumPy array for vectors."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from triform.errors import InputError
from triform.tasks import Task


class Form(ABC):
    """How answers are written, one after another."""

    name: str
    head = b""
    """What a file begins with."""

    @abstractmethod
    def encode(self, answer: Any) -> bytes:
        """One answer."""

    @abstractmethod
    def encode_error(self, message: str) -> bytes:
        """What stands in the place of the answer to a row that has none."""

    def finish(self, file: BinaryIO, rows: int) -> None:  # noqa: B027  most forms have no more to say
        """Complete a file of so many answers."""


class TextForm(Form):
    """For people; one answer may take several lines."""

    name = "text"

    def encode(self, answer: Any) -> bytes:
        return (as_text(answer) + "\n").encode()

    def encode_error(self, message: str) -> bytes:
        return f"error: {message}\n".encode()


class JsonForm(Form):
    """A line of JSON for each answer."""

    name = "jsonl"

    def encode(self, answer: Any) -> bytes:
        return (as_json(answer) + "\n").encode()

    def encode_error(self, message: str) -> bytes:
        return self.encode({"error": message})


class NpyForm(Form):
    """A float32 array (rows, width), in version 1.0 of NumPy's format; NaN for a row that has no answer."""

    name = "npy"

    def __init__(self, width: int) -> None:
        self._width = width
        self.head = self._header(0)

    def encode(self, answer: Any) -> bytes:
        return np.asarray(answer, "<f4").tobytes()

    def encode_error(self, message: str) -> bytes:
        return np.full(self._width, np.nan, "<f4").tobytes()

    def finish(self, file: BinaryIO, rows: int) -> None:
        file.seek(0)
        file.write(self._header(rows))

    def _header(self, rows: int) -> bytes:
        # 128 bytes however many rows there will be, which only the end tells.
        says = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {self._width}), }}".ljust(117) + "\n"
        return b"\x93NUMPY\x01\x00" + len(says).to_bytes(2, "little") + says.encode()


def form_of(task: Task[Any, Any], output: Path | None, *, json: bool) -> Form:
    """JSON where it is asked for or the file is .jsonl, an array where it is .npy, else text.

    Raises:
        InputError: an array of answers that are no vectors of one width.
    """
    suffix = "" if output is None else output.suffix.lower()
    if suffix == ".npy":
        none = task.many([])
        if json or not isinstance(none, np.ndarray):
            raise InputError(f"--output {output}: {task.name} {'--json ' * json}makes no array. Choose a .jsonl file.")
        return NpyForm(none.shape[1])
    return JsonForm() if json or suffix == ".jsonl" else TextForm()


def as_json(answer: Any) -> str:
    """One line of JSON; a vector becomes a list."""
    return json.dumps(answer, ensure_ascii=False, default=_to_list)


def as_text(answer: Any) -> str:
    """A vector as its numbers, an answer as its values, a list of answers or of vectors as lines."""
    if isinstance(answer, np.ndarray) and answer.ndim == 1:
        return " ".join(f"{number:.8g}" for number in answer.tolist())
    if isinstance(answer, list | np.ndarray):
        return "\n".join(map(as_text, answer))
    if isinstance(answer, dict):
        return "  ".join(
            f"({value} tokens dropped)" if name == "dropped_tokens" else _value(value) for name, value in answer.items()
        )
    return str(answer)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if isinstance(value, dict):
        return ": ".join(map(_value, value.values()))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _to_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
