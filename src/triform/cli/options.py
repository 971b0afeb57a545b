"""Options of the command line, derived from the options of tasks."""

import json
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from enum import StrEnum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from triform import strict_json
from triform.cli.parameters import Adapter, Dtype, Engine, Revision
from triform.tasks import Options
from triform.tasks.text_task import TextOptions

Parameters = Mapping[str, tuple[Any, Any]]
"""Name → annotation and default, as typer reads them from a function's signature."""

LOADING: Parameters = {
    "engine": (Engine, "auto"),
    "dtype": (Dtype, "auto"),
    "revision": (Revision, None),
    "adapter": (Adapter, None),
}
"""Options of `Task.load`."""


def options_of(kind: type[Options]) -> dict[str, tuple[Any, Any]]:
    """Derive the command line's options from a class of task options."""
    hints = get_type_hints(kind)
    return {known.name: (_annotation(hints[known.name], known), _default(known.default)) for known in fields(kind)}


def set_parameters(command: Callable[..., None], parameters: Parameters) -> None:
    """Give a function of keyword arguments a signature for typer to read."""
    own = [
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in parameters.items()
    ]
    command.__signature__ = Signature(own)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in own}


def _annotation(hint: Any, option: Field[Any]) -> Any:
    kind = list[str] | None if "Sequence[str]" in str(hint) else hint
    if choices := option.metadata["choices"]:
        one: Any = Literal[tuple(map(str, choices))]
        kind = one | None if option.default is None else one
    # A switch that is off by default needs no --no-… option.
    names = [f"--{option.name.replace('_', '-')}"] if option.default is False else []
    common = option.name in {known.name for known in fields(TextOptions)}
    envvar = f"TRIFORM_{option.name.upper()}" if common else None
    parsing: dict[str, Any] = {}
    if "Mapping" in str(hint):
        kind, parsing = Any, {"parser": json_object, "metavar": "JSON|FILE"}
    return Annotated[kind, typer.Option(*names, help=option.metadata["help"], envvar=envvar, **parsing)]


def json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object, the value of an option, or read it from the file of that name.

    Raises:
        BadParameter: the text is neither a JSON object nor the name of a file with one.
    """
    try:
        is_file = not text.lstrip().startswith("{") and Path(text).is_file()
        value = strict_json.read(Path(text)) if is_file else json.loads(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise typer.BadParameter(f'{text!r}: expected a JSON object, such as {{"early_stopping": true}}.')
    return value


def _default(default: Any) -> Any:
    match default:
        case tuple():
            return list(default)
        case StrEnum():
            return str(default)
        case _:
            return default
