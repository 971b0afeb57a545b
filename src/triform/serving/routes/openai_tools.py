"""The fields `tools` and `tool_choice` → what the template and the reader of the answer need."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triform.serving.errors import ApiError
from triform.serving.routes.generation_fields import wrong
from triform.serving.routes.tool_calls import CallForm, ToolCall, ToolCallReader, find_form
from triform.tasks.generative.text_generation import TextGeneration

MAX_TOOLS = 128


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The tools of a request."""

    given: Sequence[Mapping[str, Any]] = ()
    """As the template gets them."""
    callable: Mapping[str, Mapping[str, Any]]
    """Name → function, of the tools that may be called."""
    places: Mapping[str, str]
    """Name → place in the body, for errors."""
    must_call: bool = False
    """Whether the answer is a call and nothing else."""
    form: CallForm | None = None
    """How the model writes a call; None if its template writes no JSON."""
    is_textual: bool = False
    """Whether the form has no special token, so that a grammar of texts can describe it."""
    most: int | None = None
    """The most calls of an answer; None for any number."""

    def reader(self) -> ToolCallReader | None:
        """Make the reader of an answer; None where calls cannot be told from text."""
        if self.form is None:
            return None
        return ToolCallReader(form=self.form, names=self.callable, most=1 if self.must_call else self.most)


def read_tools(
    task: TextGeneration, tools: Sequence[Any] | None, choice: Any, *, is_parallel: bool | None
) -> Tools | None:
    """Read the fields `tools`, `tool_choice` and `parallel_tool_calls`; None without tools that may be called.

    Raises:
        ApiError: naming the field; also for a model whose template knows no tools.
    """
    if not tools:
        if choice not in (None, "none", "auto"):
            raise wrong("tool_choice", "expected only with tools, got no tools")
        return None
    if len(tools) > MAX_TOOLS:
        raise wrong("tools", f"expected at most {MAX_TOOLS}, got {len(tools)}")
    functions = dict(_read_tool(f"tools[{number}]", tool) for number, tool in enumerate(tools))
    if len(functions) < len(tools):
        raise wrong("tools", "expected a name of its own for each tool")
    if not task.chat_template.mentions("tools"):
        raise ApiError(
            400,
            "tools: the chat template of this model knows no tools, so the model would not see them. Leave them out, "
            "or choose a model that was trained to call tools.",
            code="unsupported_value",
            param="tools",
        )
    names, must_call = _read_choice(choice, functions)
    if not names:
        return None
    special = frozenset(task.tokenizer.special_tokens)
    form = find_form(task.chat_template, special)
    is_textual = form is not None and not any(token in form.opening + form.closing for token in special)
    if must_call and not is_textual:
        form, is_textual = CallForm(arguments="arguments" if form is None else form.arguments), True
    return Tools(
        given=[_without_null(tool) for tool in tools],
        callable={name: functions[name] for name in names},
        places={name: f"tools[{number}]" for number, name in enumerate(functions)},
        must_call=must_call,
        form=form,
        is_textual=is_textual,
        most=1 if is_parallel is False else None,
    )


def _read_tool(place: str, tool: Any) -> tuple[str, Mapping[str, Any]]:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict):
        raise wrong(place, 'expected {"type": "function", "function": {"name": …, "parameters": {…}}}')
    name = function.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        raise wrong(f"{place}.function.name", "expected 1 to 64 letters, digits, dots, dashes and underscores")
    if not isinstance(function.get("parameters"), dict | None):
        raise wrong(f"{place}.function.parameters", "expected a JSON schema, an object")
    if unknown := sorted(set(function) - {"name", "description", "parameters", "strict"}):
        raise wrong(f"{place}.function.{unknown[0]}", "unknown. Known are name, description, parameters, strict")
    return name, function


def _read_choice(choice: Any, functions: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Read which tools may be called, and whether one must be."""
    if choice in (None, "auto", "none", "required"):
        return [] if choice == "none" else list(functions), choice == "required"
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        return [_named("tool_choice", choice, functions)], True
    if kind == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)
        tools = allowed.get("tools") if isinstance(allowed, dict) else None
        if not isinstance(tools, list) or not tools or allowed.get("mode") not in ("auto", "required"):
            raise wrong("tool_choice.allowed_tools", 'expected {"mode": "auto" or "required", "tools": [{…}]}')
        names = [_named(f"tool_choice.allowed_tools.tools[{n}]", tool, functions) for n, tool in enumerate(tools)]
        return names, allowed["mode"] == "required"
    raise wrong("tool_choice", "expected none, auto, required, or an object that names a function")


def _named(place: str, chosen: Any, functions: Mapping[str, Any]) -> str:
    """Read the name of a function, nested as in chat or flat as in responses."""
    function = chosen.get("function", chosen) if isinstance(chosen, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or name not in functions:
        raise wrong(place, f"expected the name of one of the tools: {', '.join(functions)}")
    return name


def _without_null(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a tool without the fields that are null."""
    function = {key: value for key, value in tool["function"].items() if value is not None}
    return {**{key: value for key, value in tool.items() if value is not None}, "function": function}


def call_as_json(call: ToolCall) -> dict[str, Any]:
    """Write a call as chat does."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
