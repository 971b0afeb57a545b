"""Filters, tests, globals and methods that a chat template may use; each stays within the template's budget.

The lists name what chat templates of published models need. Anything else of Jinja is refused by name.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from string import Formatter
from typing import Any, NamedTuple, NoReturn

from jinja2 import pass_context
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter, safe_range
from jinja2.tests import TESTS
from jinja2.utils import Cycler, Joiner, Namespace

from triform.inputs.chat.template_budget import ESCAPED, ITEM, Budget, check_width

MAX_KEYS = 10_000
"""The most keys of a dictionary or a set: with chosen numbers, time is the square of their number."""
ENTITY = 5
"""The most characters of an escaped character, such as &#34;."""

SIMPLE = ("abs", "attr", "count", "d", "default", "first", "float", "int", "last", "length", "round")
LAZY = ("items", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr")
COMPARING = ("dictsort", "groupby", "max", "min", "sort", "unique")
TEXTUAL = ("capitalize", "e", "escape", "lower", "safe", "string", "title", "trim", "truncate", "upper")
COMPARISONS = frozenset(
    "in == eq equalto != ne > gt greaterthan >= ge < lt lessthan <= le divisibleby lower upper".split()
)

STR_METHODS = frozenset(
    "capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit islower "
    "isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind "
    "rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill".split()
)
METHODS: Mapping[type, frozenset[str]] = {
    str: STR_METHODS,
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index", "grouper", "list")),
    int: frozenset(),
    float: frozenset(),
}
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


class RefusedError(Exception):
    """The template has called `raise_exception`."""


class TextFormat(NamedTuple):
    """The method `format` of a text."""

    text: str


def bound_environment(environment: SandboxedEnvironment) -> None:
    """Replace filters, tests and globals of an environment by the bounded ones."""
    own = {"join": _join, "replace": _replace, "indent": _indent, "tojson": _to_json, "format": _format, "sum": _sum}
    hidden = {" concat": _concat, " made": _made, " flat": _flat, " step": _step}
    groups = {_simple: SIMPLE, _lazy: LAZY, _comparing: COMPARING, _textual: TEXTUAL}
    environment.filters = {name: make(FILTERS[name]) for make, names in groups.items() for name in names}
    environment.filters |= {**own, **hidden}
    tests: dict[str, Any] = {**TESTS}
    environment.tests = {name: _compared(test) if name in COMPARISONS else test for name, test in tests.items()}
    environment.globals = {
        "range": safe_range,
        "dict": _dict,
        "cycler": Cycler,
        "joiner": Joiner,
        "namespace": Namespace,
        "raise_exception": _refuse,
        "strftime_now": _now,
    }
    environment.finalize = _write


def allowed_methods(value: Any) -> frozenset[str] | None:
    """Return the methods of a value that a template may use; None for an object of Jinja."""
    for kind, names in METHODS.items():
        if isinstance(value, kind):
            return names
    return None if type(value).__module__.startswith("jinja2.") else frozenset()


def _call(function: Callable[..., Any], context: Context, *args: Any, **kwargs: Any) -> Any:
    """Call a filter or a test of Jinja, which may want the context, a part of it, or neither."""
    wants = getattr(function, "jinja_pass_arg", None)
    given = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
    return function(*(() if wants is None else (given[wants.name],)), *args, **kwargs)


def _simple(function: Callable[..., Any]) -> Callable[..., Any]:
    """Bound a filter that reads a value, and makes at most a number."""

    @pass_context
    def bounded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = Budget.of(context)
        if function in (FILTERS["int"], FILTERS["float"]):
            check_width(value if isinstance(value, str) else "")
        if function is FILTERS["round"]:
            for number in (*args, *kwargs.values()):
                check_width(number)
        result = _call(function, context, value, *args, **kwargs)
        return budget.made(result) if isinstance(result, int) else result

    return bounded


def _lazy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Bound a filter that reads one item after another."""

    @pass_context
    def bounded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        return _call(function, context, Budget.of(context).iterated(value), *args, **kwargs)

    return bounded


def _comparing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Bound a filter that compares the items."""

    @pass_context
    def bounded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = Budget.of(context)
        items = budget.iterated(value)
        if isinstance(items, Iterable) and not isinstance(items, str | dict | Undefined):
            items = list(items)
            budget.flat(items)
        if function is FILTERS["unique"]:
            check_width(len(items), MAX_KEYS)
        return _call(function, context, items, *args, **kwargs)

    return bounded


def _textual(function: Callable[..., Any]) -> Callable[..., Any]:
    """Bound a filter from text to text."""

    @pass_context
    def bounded(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = Budget.of(context)
        text = budget.text(value)
        budget.check_room(ENTITY * len(text))
        for given in (*args, *kwargs.values()):
            budget.check_search(text, given)
        return budget.made(_call(function, context, text, *args, **kwargs))

    return bounded


def _compared(test: Callable[..., Any]) -> Callable[..., Any]:
    """Bound a test that compares values."""

    @pass_context
    def bounded(context: Context, *values: Any) -> Any:
        budget = Budget.of(context)
        return _call(test, context, *map(budget.flat, values))

    return bounded


@pass_context
def _concat(context: Context, parts: list[Any]) -> str:
    """The operator ~."""
    budget = Budget.of(context)
    texts = [str(budget.text(part)) for part in parts]
    budget.spend(sum(map(len, texts)))
    return "".join(texts)


@pass_context
def _made(context: Context, value: Any) -> Any:
    """Spend the size of a list, a dictionary or a slice."""
    return Budget.of(context).made(value)


@pass_context
def _flat(context: Context, value: Any) -> Any:
    """Check a value before it is compared or hashed."""
    return Budget.of(context).flat(value)


@pass_context
def _step(context: Context, value: bool) -> bool:
    """Check the time in each turn of a loop."""
    Budget.of(context)
    return value


@pass_context
def _write(context: Context, value: Any) -> Any:
    """Make the text of an expression that is written."""
    if isinstance(value, Undefined):
        return value
    budget = Budget.of(context)
    text = budget.text(value)
    budget.spend(len(text))
    return text


@pass_context
def _join(context: Context, value: Any, d: str = "", attribute: Any = None) -> Any:
    budget = Budget.of(context)
    items = list(budget.iterated(value))
    if attribute is not None:
        items = list(_call(FILTERS["map"], context, items, attribute=attribute))
    return join(budget, budget.text(d), map(budget.text, items))


def join(budget: Budget, separator: str, parts: Iterable[Any]) -> str:
    """Join texts with a separator between them."""
    texts = list(budget.iterated(parts))
    budget.spend(ENTITY * (sum(map(len, map(str, texts))) + len(separator) * len(texts)))
    return separator.join(map(str, texts))


@pass_context
def _replace(context: Context, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    budget = Budget.of(context)
    return replace(budget, budget.text(value), budget.text(old), budget.text(new), -1 if count is None else count)


def replace(budget: Budget, text: str, old: str, new: str, count: int = -1) -> str:
    """Replace a part of a text."""
    found = str(text).count(old)
    places = found if count < 0 else min(found, count)
    budget.check_room(len(text) + places * ENTITY * len(new))
    return budget.made(text.replace(old, new, count))


@pass_context
def _indent(context: Context, value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    budget = Budget.of(context)
    text = budget.text(value)
    check_width(width)
    budget.spend(num_lines(text) * (ITEM + (len(width) if isinstance(width, str) else max(width, 0))))
    made: str = FILTERS["indent"](text, width, first, blank)
    return budget.made(made)


@pass_context
def _to_json(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write plain JSON; the filter of jinja2 escapes characters for HTML."""
    budget = Budget.of(context)
    for width in (indent, *(separators or ())):
        check_width(width)
    by_level = len(indent) if isinstance(indent, str) else indent or 0
    added = max(by_level, 0) + sum(map(len, separators or ()))
    budget.check_room(budget.size(value, escaped=ESCAPED, indent=added))
    made = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return budget.made(made)


@pass_context
def _format(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    budget = Budget.of(context)
    return percent(budget, budget.text(value), kwargs or args)


def percent(budget: Budget, text: str, values: Any) -> str:
    """Fill the places of a text as the operator % does."""
    for width in re.findall(r"%[^%a-zA-Z]*?(\d+|\*)", text):
        check_width(10**9 if width == "*" else int(width[:10]))
    size = budget.size(values, escaped=ESCAPED)
    budget.check_room(len(text) + size * max(1, text.count("%")))
    filled: str = text % values
    return budget.made(filled)


@pass_context
def _sum(context: Context, value: Any, attribute: Any = None, start: float = 0) -> float:
    items = list(Budget.of(context).iterated(value))
    if attribute is not None:
        items = list(_call(FILTERS["map"], context, items, attribute=attribute))
    if not all(isinstance(item, int | float) for item in (*items, start)):
        raise TypeError("sum: expected numbers")
    return Budget.of(context).made(sum(items, start))


@pass_context
def _dict(context: Context, *args: Any, **kwargs: Any) -> dict[Any, Any]:
    budget = Budget.of(context)
    read = [list(budget.iterated(pairs)) if not isinstance(pairs, dict) else pairs for pairs in args]
    budget.flat(read)
    for pairs in read:
        check_width(len(pairs), MAX_KEYS)
    return budget.made(dict(*read, **kwargs))


@pass_context
def _refuse(context: Context, message: Any) -> NoReturn:
    raise RefusedError(Budget.of(context).text(message)[:1000])


def _now(format: str) -> str:
    check_width(format)
    return datetime.now().strftime(format)


def num_lines(text: str) -> int:
    """Count the lines of a text, or a few more."""
    return 1 + sum(map(text.count, LINE_ENDS))


def call_method(budget: Budget, text: str, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call an allowed method of a text."""
    match name:
        case "join":
            return join(budget, text, *args, **kwargs)
        case "replace":
            return replace(budget, text, *args, **kwargs)
        case "split" | "rsplit":
            return _split(budget, text, name, *args, **kwargs)
        case "splitlines":
            budget.spend(ITEM * num_lines(text))
        case "center" | "ljust" | "rjust" | "zfill":
            for given in args:
                check_width(given)
        case "strip" | "lstrip" | "rstrip" | "rfind" | "rindex" | "rpartition":
            for given in args:
                budget.check_search(text, given)
    return budget.made(getattr(text, name)(*args, **kwargs))


def _split(budget: Budget, text: str, name: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    budget.check_search(text if name == "rsplit" else "", sep)
    budget.spend(len(text))
    most = budget.num_items_left
    parts: list[str] = getattr(text, name)(sep, most if maxsplit < 0 else min(maxsplit, most))
    return budget.made(parts)


class BoundedFormatter(SandboxedFormatter):
    """Fills the places of a text as `str.format` does.

    Arguments:
        environment: reads attributes and items.
        budget: the budget of the rendering.
    """

    def __init__(self, environment: SandboxedEnvironment, budget: Budget) -> None:
        super().__init__(environment)
        self._budget = budget

    def vformat(self, format_string: str, args: Any, kwargs: Any) -> str:
        self._budget.spend(len(format_string))
        return self._budget.made(super().vformat(format_string, args, kwargs))

    def format_field(self, value: Any, format_spec: str) -> str:
        for width in re.findall(r"\d+", format_spec):
            check_width(int(width[:10]))
        known = value if isinstance(value, int | float) else self._budget.text(value)
        filled: str = Formatter.format_field(self, known, format_spec)
        return self._budget.made(filled)

    def convert_field(self, value: Any, conversion: Any) -> Any:
        self._budget.check_room(self._budget.size(value, escaped=ESCAPED) if conversion else 0)
        return Formatter.convert_field(self, value, conversion)


def fill(formatter: BoundedFormatter, text: str, /, *args: Any, **kwargs: Any) -> str:
    """Call the method `format` of a text."""
    return formatter.vformat(text, args, kwargs)
