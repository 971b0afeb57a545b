"""The language of chat templates: Jinja in a sandbox, with the additions of the field.

A template comes from whoever published the model, so it is code of a stranger. It may read what it is given and write
text; the sandbox keeps it from Python. Importing this imports jinja2, so it is imported where a template is met.
"""

import json
import time
from collections.abc import Mapping, Sized
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, nodes, pass_context
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from triform.errors import InputError, TokenizerError

LONGEST = 50_000_000
"""Most characters that a template may write, or make by one product: more than any context holds."""
MOST_SECONDS = 5.0
"""Processor time that a template may take: an end to loops in loops that write nothing."""
MAX_BITS = 10_000
"""Of a whole number that a template makes."""
END = " end"
"""The variable with the time at which to end; the language has no name with a blank, so no template can set it."""


class _RefusedError(Exception):
    """The template has called `raise_exception`."""


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox that makes nothing enormous by one operation, and goes into no loop or macro once the time is over."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = [side for side in (left, right) if isinstance(side, int)]
        lengths = [len(side) for side in (left, right) if isinstance(side, Sized)]
        if len(numbers) == 2:
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            is_large = bits > MAX_BITS
        else:
            is_large = bool(numbers and lengths) and numbers[0] * lengths[0] > LONGEST
        if is_large:
            raise OverflowError(f"too large a result of {operator}")
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.body.insert(0, nodes.ExprStmt(_step(loop.lineno), lineno=loop.lineno))
            if loop.test is not None:
                loop.test = nodes.And(_step(loop.lineno), loop.test, lineno=loop.lineno)
        for macro in tree.find_all(nodes.Macro):
            macro.body.insert(0, nodes.ExprStmt(_step(macro.lineno), lineno=macro.lineno))
        return tree


def _step(line: int) -> nodes.Filter:
    return nodes.Filter(nodes.Const(True), "step", [], [], None, None, lineno=line)


@pass_context
def _check_time(context: Context, value: bool) -> bool:
    if time.thread_time() > context[END]:
        raise TimeoutError(f"it takes more than {MOST_SECONDS:g} s")
    return value


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
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters.update(tojson=_to_json, step=_check_time)
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    try:
        return environment.from_string(source)
    except Exception as error:  # beside those of jinja2, those of Python, to which it is translated
        line = getattr(error, "lineno", None)
        place = "" if line is None else f", line {line}"
        raise TokenizerError(f"{where}{place}: no chat template: {error}. Fetch the file again.") from error


def render(template: Template, variables: Mapping[str, Any], where: str) -> str:
    """What a template makes of its variables.

    Raises:
        InputError: it refuses them, in its own words.
        TokenizerError: it fails, leaves the sandbox, or goes on or writes without end.
    """
    written: list[str] = []
    length = 0
    try:
        for piece in template.generate({**variables, END: time.thread_time() + MOST_SECONDS}):
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
