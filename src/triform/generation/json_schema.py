"""Checks of a JSON Schema before it is compiled, and errors that name the keyword at fault."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from triform.errors import InputError, shown
from triform.generation.patterns import check_pattern

MAX_NESTING = 64
"""Most levels of a schema within itself."""
MAX_COMBINATIONS = 1000
"""Most combinations of alternatives (anyOf, oneOf) that `allOf` or neighbouring keywords may make."""

MAX_MULTIPLE = 20_000
"""Greatest common multiple of all multipleOf, its factors 2 and 5 left out: the compiler makes as many states."""

OF_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords with a schema for each name."""
OF_VALUES = ("const", "enum", "default", "examples", "required")
"""Keywords without schemas."""
FORCED = ("properties", "patternProperties", "additionalProperties", "items", "prefixItems")
"""Keywords of the parts of a value."""
REFUSED = ("divisibleBy", "disallow", "extends", "x-guidance")
"""Keywords that the compiler would leave out, or follow against the settings here."""


def check_schema(schema: Any, max_bytes: int) -> str:
    """Check a schema, and return it as JSON.

    Raises:
        InputError: no schema, too large or too deep a schema, a keyword that is refused, or a reference elsewhere.
    """
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise InputError(f"schema: expected a JSON Schema, which is an object, got {shown(schema)}.")
    try:
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
        schema = json.loads(text)
    except RecursionError as error:
        raise InputError("schema: it is nested too deeply. Write parts of it as $defs.") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"schema: {error}. Expected an object that can be written as JSON.") from error
    if size > max_bytes:
        raise InputError(f"schema: {size:,} bytes are more than the {max_bytes:,} that are compiled. Shorten it.")
    for number, each in enumerate(_schemas(schema)):
        _check_keywords(each, is_root=not number)
        for pattern in (each.get("pattern"), *_names(each.get("patternProperties"))):
            if isinstance(pattern, str):
                check_pattern("schema: pattern", pattern)
    _check_multiples([each.get("multipleOf") for each in _schemas(schema)])
    _Combinations(schema).check()
    # The name of the document names no schema here, and must not hide one.
    return json.dumps({key: value for key, value in schema.items() if key != "$id"}, ensure_ascii=False)


def summary(message: str) -> str:
    """Return the message of the compiler without its state, on one line."""
    return " ".join(message.partition("\n<state>")[0].replace("<non-verbose/>", "").split())[:400]


def compile_error(name: str, message: str) -> InputError:
    """Make an error of a message of the compiler, for the argument `name`."""
    line = summary(message)
    if unknown := re.match(r"Unimplemented keys: \[(.*)\]", line):
        words = unknown[1].replace('"', "")
        return InputError(f"{name}: {words} cannot be enforced. Take it out, or check it yourself in the answer.")
    if unknown := re.match(r"Unknown format: (.*)", line):
        return InputError(f"{name}: format {unknown[1]!r} cannot be enforced. Take it out, or write a pattern.")
    if line.startswith("oneOf constraints"):
        return InputError(f"{name}: oneOf is enforced only where no value fits two alternatives. Write anyOf.")
    keyword = "pattern: " if name == "schema" and ("regex" in line or "lookaround" in line) else ""
    return InputError(f"{name}: {keyword}{line.rstrip('.')}. Change it.")


def _parts(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keyword and the value of each schema directly within a schema."""
    for key, value in schema.items():
        if key in OF_VALUES:
            continue
        if key in OF_NAMES and isinstance(value, Mapping):
            yield from ((key, part) for part in value.values())
        elif isinstance(value, list | tuple):
            yield from ((key, part) for part in value)
        else:
            yield key, value


def _schemas(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and all schemas within.

    Raises:
        InputError: they are nested too deeply.
    """
    level: list[Mapping[str, Any]] = [schema]
    for _ in range(MAX_NESTING):
        yield from level
        level = [part for each in level for _, part in _parts(each) if isinstance(part, Mapping)]
        if not level:
            return
    raise InputError(f"schema: it is nested more than {MAX_NESTING} levels deep. Write parts of it as $defs.")


def _check_keywords(schema: Mapping[str, Any], *, is_root: bool) -> None:
    """Refuse keywords that the compiler would leave out, and references that lead elsewhere.

    Raises:
        InputError: naming the keyword.
    """
    for key in REFUSED:
        if key in schema:
            raise InputError(f"schema: {key} cannot be enforced. Take it out, or check it yourself in the answer.")
    for key in () if is_root else ("$id", "$schema"):
        if key in schema:
            raise InputError(f"schema: {key} within the schema makes it another document. Take it out.")
    for key in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(schema.get(key), bool):
            raise InputError(f"schema: {key} is {schema[key]}; expected a number.")
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise InputError(
            f"schema: $ref {reference[:200]!r} leads to another document, and none is fetched. Copy its schema to "
            "$defs, and refer to it as #/$defs/NAME."
        )


def _check_multiples(values: list[Any]) -> None:
    """Refuse values of multipleOf that make too many states.

    Raises:
        InputError: naming the values.
    """
    numbers = [value for value in values if isinstance(value, int | float) and value > 0]
    steps = [Fraction(str(value) if isinstance(value, float) else int(value)) for value in numbers]
    scale = math.lcm(*(step.denominator for step in steps))
    common = math.lcm(*(int(step * scale) for step in steps))
    for factor in (2, 5):
        while common % factor == 0:
            common //= factor
    if common > MAX_MULTIPLE:
        raise InputError(f"schema: multipleOf {shown(numbers)} needs too many states. Choose rounder numbers.")


class _Combinations:
    """Counts the alternatives of a value that the compiler makes of `allOf`, whose number may double at each level."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._counts: dict[int, int] = {}

    def check(self) -> None:
        """Count the alternatives of all schemas.

        Raises:
            InputError: they are more than `MAX_COMBINATIONS`.
        """
        for each in _schemas(self._schema):
            self._count(each)

    def _count(self, schema: Any) -> int:
        if not isinstance(schema, Mapping):
            return 1
        known = self._counts.get(id(schema))
        if known is not None:
            return known
        self._counts[id(schema)] = 1  # of a schema within itself
        factors = [self._count(part) for part in _list(schema.get("allOf"))]
        unions = [schema[key] for key in ("anyOf", "oneOf") if key in schema]
        factors += [sum(map(self._count, _list(union))) for union in unions]
        if "$ref" in schema:
            factors.append(self._count(self._target(schema["$ref"])))
        # Other keywords multiply nothing, but are copied to each alternative.
        is_product = len(factors) > 1 or (factors and any(key in schema for key in FORCED))
        count = math.prod(factors)
        if is_product and count > MAX_COMBINATIONS:
            raise InputError(
                f"schema: allOf, anyOf and $ref make {count:,} combinations of alternatives, more than the "
                f"{MAX_COMBINATIONS:,} that are compiled. Name fewer."
            )
        self._counts[id(schema)] = count = min(count, 2**32)
        return count

    def _target(self, reference: Any) -> Any:
        """Find the schema of a pointer such as #/$defs/name; None for other references."""
        found: Any = self._schema
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        for name in filter(None, reference[1:].split("/")):
            key = name.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


def _names(value: Any) -> list[str]:
    return list(value) if isinstance(value, Mapping) else []


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
