"""The ways in which people hand over a text, a pair of texts, or an object of texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from triform.errors import InputError, shown

Fields = Mapping[str, type[str] | type[list[str]]]
"""The names of an object's texts and lists of texts."""


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
    raise InputError(f'Expected a text or {{"text": …, "text_pair": …}}, got {shown(given)}.')


def read_object(given: Any, expected: Fields) -> list[Any]:
    """The values of an object, in the order in which `expected` names them.

    Raises:
        InputError: it is no object, has other names, or values that are no text or no list of texts.
    """
    if not isinstance(given, Mapping) or set(given) != set(expected):
        form = ", ".join(f'"{name}": {"text" if kind is str else "[text, …]"}' for name, kind in expected.items())
        raise InputError(f"Expected an object {{{form}}}, got {shown(given)}.")
    for name, kind in expected.items():
        value = given[name]
        if kind is str and not isinstance(value, str):
            raise InputError(f"{name}: expected a text, got {shown(value)}.")
        if kind is not str and not (
            isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value)
        ):
            raise InputError(f"{name}: expected a list of one or more texts, got {shown(value)}.")
    return [given[name] for name in expected]
