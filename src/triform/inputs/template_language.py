"""The language of chat templates: Jinja in a sandbox, with the additions of the field.

A template comes from whoever published the model, so it is code of a stranger. It may read what it is given and write
text; the sandbox keeps it from Python. Importing this imports jinja2, so it is imported where a template is met.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from triform.errors import InputError, TokenizerError

LONGEST = 50_000_000
"""Most characters that a template may write: more than any context holds, and an end to loops in loops."""


class _RefusedError(Exception):
    """The template has called `raise_exception`."""


class _Generation(Extension):
    """`{% generation %}` marks what the assistant said, for training; the text between the tags stays as it is."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(source: str, where: str) -> Template:
    """A template ready to be rendered.

    Arguments:
        source: its text.
        where: the file, for messages.

    Raises:
        TokenizerError: it is not in the language.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    try:
        return environment.from_string(source)
    except (TemplateError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        place = "" if line is None else f", line {line}"
        raise TokenizerError(f"{where}{place}: no chat template: {error}. Fetch the file again.") from error


def render(template: Template, variables: Mapping[str, Any], where: str) -> str:
    """What a template makes of its variables.

    Raises:
        InputError: it refuses them, in its own words.
        TokenizerError: it fails, leaves the sandbox, or writes without end.
    """
    written: list[str] = []
    length = 0
    try:
        for piece in template.generate(variables):
            written.append(piece)
            length += len(piece)
            if length > LONGEST:
                raise TokenizerError(f"{where}: the chat template writes more than {LONGEST:,} characters. Mend it.")
    except _RefusedError as refusal:
        raise InputError(f"{where} refuses the conversation: {refusal}") from refusal
    except TokenizerError:
        raise
    except Exception as error:  # a stranger's code may fail in any way
        raise TokenizerError(
            f"{where}: the chat template fails on this conversation: {type(error).__name__}: {error}. "
            "Give it what it expects, or mend the file."
        ) from error
    return "".join(written)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON; that of jinja2 is for HTML, and escapes its characters."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: Any) -> NoReturn:
    raise _RefusedError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)
