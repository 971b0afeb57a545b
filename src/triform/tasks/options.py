"""Options of a task: dataclass fields with help for people, and the check of their values."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from triform.errors import InputError, shown


def option(default: Any, help: str, *, minimum: int | None = None, choices: Sequence[StrEnum] = ()) -> Any:
    """Declare a field of a task's options, with the help that the command line shows.

    Arguments:
        default: the value where the caller sets none.
        help: one line for people.
        minimum: the least value of a whole number.
        choices: the values of an enum that the task takes; by default all.
    """
    return field(default=default, metadata={"help": help, "minimum": minimum, "choices": choices})


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Settings of a whole pipeline, or of one call, that every task has."""

    token_budget: int = option(2048, "Most tokens that go through the model at once; more need more memory.", minimum=1)


OptionsType = TypeVar("OptionsType", bound=Options)


ELSEWHERE: Mapping[str, str] = {
    "truncation": 'long_input="truncate"',
    "padding": "nothing: no text is padded here",
    "batch_size": "token_budget, which counts tokens",
    "device": 'engine="torch:cuda", or another device of torch',
    "device_map": 'engine="torch:cuda", or another device of torch',
    "torch_dtype": "dtype",
    "max_length": "max_new_tokens, or generate_kwargs",
    "min_length": "min_new_tokens, or generate_kwargs",
    "stop_strings": "stop",
    "return_all_scores": "top_k=None",
    "grouped_entities": 'aggregation_strategy="simple"',
}
"""Options of the pipelines of `transformers` → their names here."""


def with_changes(options: OptionsType, changes: Mapping[str, Any], task: str) -> OptionsType:
    """Replace some options by checked values; `task` is the task's name for errors.

    Raises:
        InputError: an unknown option, or a value that does not fit.
    """
    own = {known.name: known for known in fields(options)}
    unknown = sorted(set(changes) - set(own))
    if unknown:
        hints = "".join(f" For {name} take {ELSEWHERE[name]}." for name in unknown if name in ELSEWHERE)
        raise InputError(f"{task} has no option {', '.join(unknown)}.{hints} It has {', '.join(own)}.")
    kind: Any = type(options)
    kinds = _types_of(kind) if changes else {}
    return replace(options, **{name: _checked(own[name], kinds[name], value) for name, value in changes.items()})


@cache
def _types_of(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _checked(option: Field[Any], kind: Any, value: Any) -> Any:
    """Check the value of an option of type `kind`; an enum's member may be given by its name.

    Raises:
        InputError: a value of another type, an enum's member that the task does not take, or too small a number.
    """
    choices = option.metadata["choices"] or (tuple(type(option.default)) if isinstance(option.default, StrEnum) else ())
    if choices and not (value is None and option.default is None):
        if not isinstance(value, str) or value not in choices:
            given = str(value) if isinstance(value, str) else value
            raise InputError(f"{option.name}={shown(given)}: expected one of {', '.join(choices)}.")
        return type(choices[0])(value)
    minimum = option.metadata["minimum"]
    if isinstance(value, Integral) and abs(int(value)) >= 2**62:  # sums with it stay within 64 bits
        raise InputError(f"{option.name}={shown(value)}: expected a number nearer to 0.")
    kinds = set(get_args(kind)) if isinstance(kind, UnionType) else {kind}
    fits = any(KINDS[one][1](value) for one in kinds)
    if not fits or (minimum is not None and value is not None and value < minimum):
        least = "" if minimum is None else f" of at least {minimum}"
        expected = " or ".join(words + least * (one is int) for one, (words, _) in KINDS.items() if one in kinds)
        raise InputError(f"{option.name}={shown(value)}: expected {expected}.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    """Check for a text without halves of surrogate pairs, which no tokenizer reads."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


KINDS: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", lambda value: isinstance(value, Integral) and not isinstance(value, bool)),
    float: ("a number", _is_number),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    str: ("a text", _is_text),
    Sequence[str]: ("a list of texts", lambda value: isinstance(value, list | tuple) and all(map(_is_text, value))),
    Mapping[str, Any]: ("an object", lambda value: isinstance(value, Mapping)),
    NoneType: ("None", lambda value: value is None),
}
"""The type of an option → its name for people, and the test of a value."""
