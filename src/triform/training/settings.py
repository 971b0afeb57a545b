"""Tables of TOML → dataclasses of settings: what is unknown, missing or of another kind is an error that names it."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from triform.errors import InputError, shown

T = TypeVar("T")

WORDS: Mapping[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def read_settings(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Settings of a kind.

    Raises:
        InputError: naming `where` and the key.
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
        return kind(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in table.items()})
    except InputError as error:
        raise error if str(error).startswith(where) else InputError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value as what it should be.

    Raises:
        InputError: it cannot be.
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


def check_positive(settings: Any, *names: str) -> None:
    """Refuse numbers that are not above 0.

    Raises:
        InputError: naming the first.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise InputError(f"{name} = {value}: expected more than 0.")
