"""The ways in which people hand over a text or a pair of texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from triform.errors import InputError


def read_texts(inputs: Sequence[Any]) -> list[str | tuple[str, str]]:
    """Strings, or {"text": …, "text_pair": …}.

    Raises:
        InputError: something else.
    """
    return [_read(given) for given in inputs]


def _read(given: Any) -> str | tuple[str, str]:
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping) and "text" in given and set(given) <= {"text", "text_pair"}:
        pair = given.get("text_pair")
        return given["text"] if pair is None else (given["text"], pair)
    raise InputError(f'Expected a text or {{"text": …, "text_pair": …}}, got {given!r}.')
