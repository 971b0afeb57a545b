"""Rules for the values of generation settings."""

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

MAX_WHOLE = 2**1000
"""Limit of whole numbers, within the range of float64."""


class Rule(NamedTuple):
    """Rule for the values of a setting."""

    expected: str
    """Allowed values in words, for messages and docs."""
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value
    """Converts a value from callers or JSON to the stored value."""
    minimum: int | None = None
    """Smallest allowed whole number; None for other kinds of values."""


def number(expected: str, accepts: Callable[[float], bool] = lambda value: True) -> Rule:
    """Make the rule for finite numbers in a range."""

    def is_one(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        if isinstance(value, Integral) and abs(int(value)) > MAX_WHOLE:
            return False
        return math.isfinite(value) and accepts(float(value))

    return Rule(expected, is_one)


def at_least(minimum: int, maximum: int = 2**31 - 1) -> Rule:
    """Make the rule for whole numbers in a range."""

    def is_one(value: Any) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and minimum <= int(value) <= maximum

    return Rule(f"a whole number of at least {minimum} and at most {maximum}", is_one, minimum=minimum)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Convert a value, or a list of values, to a tuple."""
    return tuple(value if isinstance(value, list | tuple) else [value])


TOKEN = Rule("the id of a token", at_least(0).accepts)
TOKENS = Rule(
    "the id of a token, or a list of them",
    lambda value: isinstance(value, tuple) and all(map(TOKEN.accepts, value)),
    as_tuple,
)
BAD_WORDS = Rule(
    "a list of lists of token ids",
    lambda value: isinstance(value, tuple) and all(word and all(map(TOKEN.accepts, word)) for word in value),
    lambda value: tuple(map(as_tuple, value)) if isinstance(value, list | tuple) else value,
)
TEXTS = Rule(
    "a text, or a list of them, none empty",
    lambda value: isinstance(value, tuple) and all(isinstance(text, str) and text for text in value),
    as_tuple,
)
MAX_BIAS = 100


def as_biases(value: Any) -> Any:
    """Convert a mapping of ids, which are strings in JSON, to pairs in the order of the ids."""
    if not isinstance(value, Mapping):
        return value
    pairs = [
        (int(id) if isinstance(id, str) and id.isascii() and id.isdigit() else id, bias) for id, bias in value.items()
    ]
    return tuple(sorted(pairs)) if all(TOKEN.accepts(id) for id, _ in pairs) else value


def _are_biases(value: Any) -> bool:
    is_bias = number("", lambda bias: abs(bias) <= MAX_BIAS).accepts
    return isinstance(value, tuple) and all(is_bias(bias) for _, bias in value) and len(dict(value)) == len(value)


BIASES = Rule(f"an object {{id: number from -{MAX_BIAS} to {MAX_BIAS}}}", _are_biases, as_biases)
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
EARLY_STOPPING = Rule('true, false or "never"', lambda value: isinstance(value, bool) or value == "never")
PROBABILITY = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
PENALTY = number("a number from -2 to 2", lambda value: -2 <= value <= 2)
FACTOR = number("a number from 1e-30 to 1e30", lambda value: 1e-30 <= value <= 1e30)
"""A factor of logits that leaves them finite in float32."""
