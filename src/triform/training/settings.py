"""Settings: tables of TOML as typed dataclasses; unknown, missing or wrong keys are errors."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from triform.errors import InputError, shown

T = TypeVar("T")

WORDS: Mapping[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def setting(default: Any, help: str) -> Any:
    """Declare a setting: a dataclass field with a default and a help text."""
    return field(default=default, metadata={"help": help})


def read_settings(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Read settings of a kind from a table.

    Arguments:
        kind: a dataclass; the type hints of its fields say what the values may be.
        table: the values.
        where: place of the table, for messages.

    Raises:
        InputError: a key is unknown or missing, or a value is wrong.
    """
    known: dict[str, Field[Any]] = {own.name: own for own in fields(cast(Any, kind))}
    for name in table:
        if name not in known:
            raise InputError(f"{where}: {name!r} is not known. Known are {', '.join(known)}.")
    for name, own in known.items():
        if name not in table and own.default is MISSING and own.default_factory is MISSING:
            raise InputError(f"{where}: {name!r} is missing.")
    hints = get_type_hints(kind)
    try:
        return kind(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in table.items()})
    except InputError as error:
        raise error if str(error).startswith(where) else InputError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Convert a value to the type of a hint.

    Raises:
        InputError: the value does not fit the hint.
    """
    for kind in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        origin = get_origin(kind) or kind
        if is_dataclass(kind) and isinstance(value, Mapping):
            return read_settings(cast(type[Any], kind), value, where)
        if isinstance(origin, type) and issubclass(origin, StrEnum) and value in tuple(origin):
            return origin(value)
        if origin is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if origin in (str, float, int, bool) and type(value) is origin:
            return value
        if origin is Mapping and isinstance(value, Mapping):
            return dict(value)
        if origin is Sequence and isinstance(value, list):
            return value
    raise InputError(f"{where} = {shown(value)}: expected {_expected(hint)}.")


def _expected(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(_expected(kind) for kind in get_args(hint) if kind is not NoneType)
    origin = get_origin(hint) or hint
    if isinstance(origin, type) and issubclass(origin, StrEnum):
        return f"one of {', '.join(origin)}"
    return WORDS.get(origin, "a list" if origin is Sequence else "a table")


def merge_tables(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge changes into a table, tables key by key; None changes nothing. Paths become texts and tuples lists."""
    merged = dict(table)
    for key, change in changes.items():
        match change:
            case None:
                continue
            case Mapping():
                old = merged.get(key)
                merged[key] = merge_tables(old if isinstance(old, Mapping) else {}, change)
            case list() | tuple():
                merged[key] = [str(value) if isinstance(value, Path) else value for value in change]
            case _:
                merged[key] = str(change) if isinstance(change, Path) else change
    return merged


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Parse changes of a recipe in the form KEY=VALUE, such as `optimizer.learning_rate=3e-5`.

    The value is TOML; a text may go without its quotes.

    Raises:
        InputError: a text is not of this form.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: expected KEY=VALUE, such as optimizer.learning_rate=3e-5.")
        try:
            change = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            change = value.strip()
        for key in reversed(name.strip().split(".")):
            change = {key: change}
        changes = merge_tables(changes, change)
    return changes


def check_positive(settings: Any, *names: str) -> None:
    """Check some settings: None, or greater than 0.

    Raises:
        InputError: one is not; the first is named.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise InputError(f"{name} = {value}: expected more than 0.")
