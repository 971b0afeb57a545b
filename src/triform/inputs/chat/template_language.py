"""The language of chat templates: Jinja in a sandbox, with the usual additions of chat templates.

A template is untrusted code from the publisher of the model. It may read its variables and write text; the sandbox
keeps it from Python, and a budget keeps it from taking all time or memory. This module imports jinja2, so it is
imported only for a model with a template.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jinja2 import Template, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from triform.errors import InputError, TokenizerError
from triform.inputs.chat.template_budget import BUDGET, ITEM, MAX_BITS, Budget
from triform.inputs.chat.template_operations import (
    ENTITY,
    BoundedFormatter,
    RefusedError,
    TextFormat,
    allowed_methods,
    bound_environment,
    call_method,
    fill,
    percent,
)

LONGEST = 40_000_000
"""The most characters that a template may write and make, beside `COPIES` of the conversation."""
COPIES = 50
"""Copies of the conversation that a template may make: a template that joins its messages copies many."""
MOST_SECONDS = 5.0
"""The processor time of a template."""
PLAIN = {"messages": [{"role": "user", "content": "Hello!"}], "tools": None, "documents": None}
"""A conversation that every sound template can write."""


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox whose operations stay within a budget."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = Budget.of(context)
        if operator == "%" and isinstance(left, str):
            return percent(budget, left, right)
        if operator in "**":
            _check_product(budget, operator, left, right)
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            escapes = hasattr(left, "__html__") or hasattr(right, "__html__")
            budget.check_room((len(left) + len(right)) * (ENTITY if escapes else 1))
        return budget.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        budget = Budget.of(context)
        owner = getattr(obj, "__self__", None)
        if isinstance(obj, TextFormat):
            obj = partial(fill, BoundedFormatter(self, budget), obj.text)
        elif isinstance(owner, str):
            obj = partial(call_method, budget, owner, obj.__name__)
        elif owner is not None:
            budget.flat([owner, *args] if isinstance(owner, list | tuple) else list(args))
        return super().call(context, obj, *args, **kwargs)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple):
            raise TypeError("a tuple cannot be a key")
        return super().getitem(obj, argument)

    def wrap_str_format(self, value: Any) -> Any:
        owner = getattr(value, "__self__", None)
        is_format = isinstance(owner, str) and getattr(value, "__name__", "") == "format"
        return TextFormat(str(owner)) if is_format else None

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        allowed = allowed_methods(obj)
        return (allowed is None or attr in allowed) and super().is_safe_attribute(obj, attr, value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all((nodes.EvalContextModifier,)):
            raise TemplateSyntaxError("autoescape is not for chat templates", node.lineno)
        _Bounding().visit(tree)
        tree.set_environment(self)
        return tree


def _check_product(budget: Budget, operator: str, left: Any, right: Any) -> None:
    """Raise OverflowError for a product or a power that is too large."""
    numbers = [side for side in (left, right) if isinstance(side, int)]
    if len(numbers) == 2:
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_BITS:
            raise OverflowError(f"it makes a whole number of more than {MAX_BITS:,} bits")
    elif numbers:
        [repeated] = [side for side in (left, right) if not isinstance(side, int)]
        size = len(repeated) * (1 if isinstance(repeated, str) else ITEM) if hasattr(repeated, "__len__") else 0
        budget.check_room(size * max(numbers[0], 0))


class _Bounding(NodeTransformer):
    """Puts the hidden filters around the constructs of a template that no method of the sandbox sees."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        self.generic_visit(node)
        match node:
            case nodes.For() | nodes.Macro():
                node.body.insert(0, nodes.ExprStmt(_step(node.lineno), lineno=node.lineno))
                if isinstance(node, nodes.For) and node.test is not None:
                    node.test = nodes.And(_step(node.lineno), node.test, lineno=node.lineno)
            case nodes.TemplateData():  # written as an expression, so that its length counts
                return nodes.Const(node.data, lineno=node.lineno)
            case nodes.Concat():
                return _filtered(nodes.List(node.nodes, lineno=node.lineno), " concat")
            case nodes.Compare():
                node.expr = _filtered(node.expr, " flat")
            case nodes.Operand():
                node.expr = _filtered(node.expr, " flat")
            case nodes.Pair():
                node.key = _filtered(node.key, " flat")
            case nodes.Getitem(arg=nodes.Slice()) | nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
                return _filtered(node, " made")
        return node


def _filtered(node: nodes.Expr, name: str) -> nodes.Expr:
    """Apply a hidden filter to an expression; a constant needs none."""
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _step(line: int) -> nodes.Filter:
    return nodes.Filter(nodes.Const(True, lineno=line), " step", [], [], None, None, lineno=line)


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
        trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    bound_environment(environment)
    try:
        return environment.from_string(source)
    except Exception as error:  # errors of jinja2, and of the Python to which it translates
        line = getattr(error, "lineno", None)
        place = "" if line is None else f", line {line}"
        raise TokenizerError(f"{where}{place}: no chat template: {error}. Fetch the file again.") from error


def render(template: Template, variables: Mapping[str, Any], where: str, *, size: int = 0) -> str:
    """Render a template with its variables.

    Arguments:
        template: the compiled template.
        variables: the conversation and the special tokens.
        where: the file, for messages.
        size: characters of the conversation.

    Raises:
        InputError: the template refuses the variables, in its own words, or fails on this conversation alone.
        TokenizerError: the template fails on a plain conversation too.
    """
    try:
        return _write(template, variables, size)
    except RefusedError as refusal:
        raise InputError(f"{where} refuses the conversation: {refusal}") from refusal
    except Exception as error:  # untrusted code may fail in any way
        kind = InputError if _works(template, variables) else TokenizerError
        raise kind(
            f"{where}: the chat template fails on this conversation: {type(error).__name__}: {error}. "
            "Give it what it expects, or mend the file."
        ) from error


def _write(template: Template, variables: Mapping[str, Any], size: int) -> str:
    budget = Budget(LONGEST + COPIES * size, MOST_SECONDS)
    return "".join(template.generate({**variables, BUDGET: budget}))


def _works(template: Template, variables: Mapping[str, Any]) -> bool:
    """Whether the template writes, or refuses, a plain conversation."""
    try:
        _write(template, {**variables, **PLAIN}, size=0)
    except RefusedError:
        return True
    except Exception:
        return False
    return True
