"""Answers as text for people, and as JSON for programs."""

import json
from typing import Any

import numpy as np


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
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _to_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
