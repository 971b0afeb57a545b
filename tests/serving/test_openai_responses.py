"""Responses by the official client: the same text as chat, whole and in events."""

from typing import Any

import httpx
import openai
import pytest

from tests.serving.conftest import CALLS, Scripts
from tests.serving.harness import Running

MODEL = "org/chat"


def test_text_is_that_of_chat(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello!"}]
    expected = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=12)
    for input in ("Hello!", messages[1:], [{"role": "user", "content": [{"type": "input_text", "text": "Hello!"}]}]):
        answer = client.responses.create(
            model=MODEL, input=input, instructions="Be kind.", temperature=0, max_output_tokens=12
        )
        assert answer.output_text == expected.choices[0].message.content
        assert answer.status in ("completed", "incomplete")
        assert answer.usage.input_tokens == expected.usage.prompt_tokens
        assert answer.usage.output_tokens == expected.usage.completion_tokens
        assert answer.store is False if hasattr(answer, "store") else True


def test_answer_that_is_cut_is_incomplete(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Hi", max_output_tokens=1, extra_body={"temperature": 0})
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_events(client: openai.OpenAI, scripts: Scripts) -> None:
    """The client's own helper adds the events up to the whole answer."""
    for text, script in list(scripts.items())[:5]:
        with client.responses.stream(model=script.model, input=script.prompt, max_output_tokens=200) as stream:
            events = list(stream)
            final = stream.get_final_response()
        assert final.output_text == text
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert [event.type for event in events][:4] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
        ]
        assert [event.type for event in events][-4:] == [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]


def test_calls_and_their_outputs(client: openai.OpenAI, scripts: Scripts) -> None:
    script = scripts[CALLS["text and call"]]
    tools: Any = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
    request: Any = {"model": script.model, "tools": tools, "max_output_tokens": 200}
    input: Any = [{"role": "user", "content": script.prompt}]
    answer = client.responses.create(input=input, **request)
    message, call = answer.output
    assert message.type == "message"
    assert answer.output_text.strip() == "Let me look."
    assert call.type == "function_call"
    assert call.name == "weather"
    with client.responses.stream(input=input, **request) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_response()
    assert [item.type for item in streamed.output] == ["message", "function_call"]
    assert streamed.output_text == answer.output_text
    assert streamed.output[1].type == "function_call"
    assert streamed.output[1].arguments == call.arguments
    history = [
        *input,
        *[item.model_dump(exclude_none=True) for item in answer.output],
        {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."},
    ]
    assert client.responses.create(input=history, model=script.model, max_output_tokens=3, tools=tools).usage


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "input"),
    ({"input": []}, "input"),
    ({"input": 3}, "input"),
    ({"input": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
    ({"input": "a", "conversation": "conv_1"}, "conversation"),
    ({"input": "a", "background": True}, "background"),
    ({"input": "a", "truncation": "auto"}, "truncation"),
    ({"input": "a", "tools": [{"type": "web_search"}]}, "tools[0]"),
    ({"input": [{"type": "reasoning", "summary": []}]}, "input[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
    ({"input": ["a"]}, "input[0].type"),
    ({"input": [{"role": "user", "content": "a"}, {"role": "king", "content": "a"}]}, "input[1].role"),
    ({"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
    ({"input": "a", "max_output_tokens": 100_000}, "max_output_tokens"),
    ({"input": "a", "depth": 3}, "depth"),
    ({"input": "a", "temperature": 9}, "temperature"),
    ({"input": "a", "instructions": 3}, "instructions"),
]


@pytest.mark.parametrize(("body", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_bad_input_is_named(chat_server: Running, client: openai.OpenAI, body: dict[str, Any], param: str) -> None:
    for stream in ({}, {"stream": True}):
        answer = httpx.post(f"{chat_server.url}/v1/responses", json={"model": MODEL, **body, **stream})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param
    assert client.responses.create(model=MODEL, input="Hi", max_output_tokens=1).id
