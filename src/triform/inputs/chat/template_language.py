"""The language of chat templates: Jinja in a sandbox, with the usual additions of chat templates.

A template is untrusted code from the publisher of the model. It may read its variables and write text; the sandbox
keeps it from Python. This module imports jinja2, so it is imported only for a model with a template.
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
"""The most characters that a template may write, or make by one product: more than any context holds."""
MOST_SECONDS = 5.0
"""The processor time of a template: ends nested loops that write nothing."""
MAX_BITS = 10_000
"""The most bits of a whole number that a template computes."""
END = " end"
"""The variable that holds the deadline; its name has a blank, so no template can set it."""


class _RefusedError(Exception):
    """The template has called `raise_exception`."""


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox that bounds the result of one operation, and enters no loop or macro after the deadline."""

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
    """`{% generation %}` marks the assistant's text for training; the text between the tags stays unchanged."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(source: str, where: str) -> Template:
    """Compile a template.

    Arguments:
        source: the text of the template.
        where: the file, for messages.

    Raises:
        TokenizerError: the text is not in the language.
    """
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters.update(tojson=_to_json, step=_check_time)
    environment.globals.update(raise_exception=_refuse, strftime_now=_now)
    try:
        return environment.from_string(source)
    except Exception as error:  # errors of jinja2, and of the Python to which it translates
        line = getattr(error, "lineno", None)
        place = "" if line is None else f", line {line}"
        raise TokenizerError(f"{where}{place}: no chat template: {error}. Fetch the file again.") from error


def render(template: Template, variables: Mapping[str, Any], where: str) -> str:
    """Render a template with its variables.

    Raises:
        InputError: the template refuses the variables, in its own words.
        TokenizerError: the template fails, leaves the sandbox, exceeds its time, or writes too much.
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
    except Exception as error:  # untrusted code may fail in any way
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
    """Write plain JSON; the filter of jinja2 escapes characters for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: Any) -> NoReturn:
    raise _RefusedError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)
