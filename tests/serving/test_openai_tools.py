"""Calls of tools by the official client, with a model that writes given calls."""

import json
from typing import Any

import httpx
import openai
import pytest

from tests.serving.conftest import CALLS, Scripts
from tests.serving.harness import Running

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "Tell it.", "parameters": CITY}},
    {"type": "function", "function": {"name": "clock"}},
]
ARGUMENTS = {"city": "Zürich 🌧", "days": 2}


def request(scripts: Scripts, name: str, **more: Any) -> Any:
    """Make a request to which the model answers with a text of `CALLS`."""
    script = scripts[CALLS[name]]
    return {
        "model": script.model,
        "messages": [{"role": "user", "content": script.prompt}],
        "tools": TOOLS,
        "max_tokens": 200,
        **more,
    }


@pytest.mark.parametrize(
    ("name", "content", "calls"),
    [
        ("call", None, [("weather", ARGUMENTS)]),
        ("text and call", "Let me look.\n", [("weather", ARGUMENTS)]),
        ("two calls", None, [("weather", ARGUMENTS), ("clock", {})]),
        ("no call", CALLS["no call"], []),
    ],
)
def test_calls_are_told_from_text(
    client: openai.OpenAI,
    scripts: Scripts,
    name: str,
    content: str | None,
    calls: list[tuple[str, dict[str, Any]]],
) -> None:
    choice = client.chat.completions.create(**request(scripts, name)).choices[0]
    assert choice.message.content == content
    found = choice.message.tool_calls or []
    assert [(each.function.name, json.loads(each.function.arguments)) for each in found] == calls
    assert choice.finish_reason == ("tool_calls" if calls else "stop")
    assert len({each.id for each in found}) == len(calls)
    with client.chat.completions.stream(**request(scripts, name)) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0]
    assert streamed.message.content == content
    assert [(each.function.name, each.function.arguments) for each in streamed.message.tool_calls or ()] == [
        (each.function.name, each.function.arguments) for each in found
    ]
    assert streamed.finish_reason == choice.finish_reason


@pytest.mark.parametrize("name", ["unknown", "broken"])
def test_calls_follow_the_schema_of_a_tool(client: openai.OpenAI, scripts: Scripts, name: str) -> None:
    """The model would call an unknown tool, or break off; from the opening on it may only write a call."""
    choice = client.chat.completions.create(**request(scripts, name, max_tokens=120)).choices[0]
    for each in choice.message.tool_calls or ():
        arguments = json.loads(each.function.arguments)
        assert each.function.name in ("weather", "clock")
        assert each.function.name == "clock" or isinstance(arguments["city"], str)
    assert choice.message.tool_calls or choice.finish_reason == "length"


@pytest.mark.parametrize("seed", range(4))
def test_required_calls_always_parse(client: openai.OpenAI, seed: int) -> None:
    """A model with random weights calls a tool whose arguments come from small sets, by references and all."""
    schema = {
        "type": "object",
        "properties": {"unit": {"$ref": "#/$defs/Unit"}, "deep": {"$ref": "#/$defs/Deep"}},
        "required": ["unit", "deep"],
        "additionalProperties": False,
        "$defs": {
            "Unit": {"enum": ["C", "°F"]},
            "Deep": {"type": "array", "items": {"$ref": "#/$defs/Unit"}, "minItems": 1, "maxItems": 2},
        },
    }
    tools = [{"type": "function", "function": {"name": "heat", "parameters": schema, "strict": True}}, TOOLS[1]]
    options: Any = {"model": "tools", "messages": [{"role": "user", "content": "a"}], "tools": tools, "temperature": 1}
    for choice in ("required", {"type": "function", "function": {"name": "heat"}}):
        answer = client.chat.completions.create(**options, tool_choice=choice, seed=seed).choices[0]
        [call] = answer.message.tool_calls
        assert answer.finish_reason == "tool_calls"
        assert answer.message.content is None
        arguments = json.loads(call.function.arguments)
        if choice == "required" and call.function.name == "clock":
            assert arguments == {}
        else:
            assert set(arguments) == {"unit", "deep"}
            assert {arguments["unit"], *arguments["deep"]} <= {"C", "°F"}


def test_schema_that_cannot_be_enforced(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"when": {"type": "string", "format": "moon-phase"}}}
    function: Any = {"name": "moon", "parameters": schema}
    request: Any = {"model": "tools", "messages": [{"role": "user", "content": "a"}], "max_tokens": 4}
    tools = [{"type": "function", "function": function}]
    raw = client.chat.completions.with_raw_response.create(**request, tools=tools)
    assert "moon-phase" in raw.headers["x-hf-warning"]
    function["strict"] = True
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request, tools=tools)
    assert caught.value.param == "tools[0].function.parameters"
    assert "moon-phase" in str(caught.value)


def test_tools_too_large_to_enforce(client: openai.OpenAI, scripts: Scripts) -> None:
    asked = request(scripts, "call")
    values = [f"value {number}" for number in range(4000)]
    schema = {"type": "object", "properties": {"kind": {"enum": values}}}
    many = [{"type": "function", "function": {"name": f"tool{number}", "parameters": schema}} for number in range(2)]
    asked["tools"] = [*TOOLS, *many]
    raw = client.chat.completions.with_raw_response.create(**asked)
    assert "not enforced" in raw.headers["x-hf-warning"]
    assert raw.parse().choices[0].message.tool_calls[0].function.name == "weather"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked, tool_choice="required")
    assert caught.value.param == "tools"


def test_one_call_where_calls_are_not_parallel(client: openai.OpenAI, scripts: Scripts) -> None:
    answer = client.chat.completions.create(**request(scripts, "two calls", parallel_tool_calls=False))
    assert [each.function.name for each in answer.choices[0].message.tool_calls or ()] == ["weather"]
    assert answer.choices[0].finish_reason == "tool_calls"


def test_no_call_where_none_is_wanted(client: openai.OpenAI, scripts: Scripts) -> None:
    answer = client.chat.completions.create(**request(scripts, "call", tool_choice="none"))
    assert answer.choices[0].message.content == CALLS["call"]
    assert answer.choices[0].message.tool_calls is None


def test_history_with_calls(client: openai.OpenAI, scripts: Scripts) -> None:
    first = request(scripts, "call")
    message = client.chat.completions.create(**first).choices[0].message
    answer = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Rain."}
    first["messages"] = [*first["messages"], message.model_dump(), answer]
    first["max_tokens"] = 4
    assert client.chat.completions.create(**first).choices[0].finish_reason


CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{"}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "search"}]}, "tools[0]"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tools": [{"type": "function", "function": {"name": "a", "colour": 1}}]}, "tools[0].function.colour"),
    ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
    ({"tools": TOOLS, "tool_choice": "maybe"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    ({"messages": [{"role": "assistant", "tool_calls": [3]}]}, "messages[0].tool_calls[0]"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id"),
]


@pytest.mark.parametrize(("body", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_bad_input_is_named(chat_server: Running, body: dict[str, Any], param: str) -> None:
    whole = {"model": "tools", "messages": [{"role": "user", "content": "a"}], **body}
    answer = httpx.post(f"{chat_server.url}/v1/chat/completions", json=whole)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_template_without_tools(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="org/chat", messages=[{"role": "user", "content": "a"}], tools=TOOLS)
    assert caught.value.param == "tools"
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history: Any = [{"role": "assistant", "tool_calls": [call]}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="org/chat", messages=history)
    assert caught.value.param == "messages[0].tool_calls"
