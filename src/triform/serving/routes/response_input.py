"""The body of OpenAI's responses → the fields of chat."""

from typing import Any

import msgspec

from triform.serving.routes.chat_run import ChatFields
from triform.serving.routes.generation_fields import StreamOptions, wrong
from triform.serving.routes.openai_messages import Message

LOGPROBS = "message.output_text.logprobs"


class TextFields(msgspec.Struct, forbid_unknown_fields=True):
    """The form of the text. `verbosity` is accepted and not read."""

    format: dict[str, Any] | None = None
    verbosity: Any = None


class ResponseRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body. The fields of the last group change no answer and are not read."""

    input: str | list[Any]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    text: TextFields | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    reasoning: dict[str, str | None] | None = None
    include: list[str] | None = None
    truncation: str | None = None
    metadata: dict[str, str] | None = None

    previous_response_id: Any = None
    conversation: Any = None
    background: bool | None = None
    prompt: Any = None
    top_logprobs: int | None = None
    max_tool_calls: Any = None

    store: Any = None
    user: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None


class ResponseChat(ChatFields, kw_only=True):
    """The fields of chat, and the place in `input` that each message comes from."""

    origins: list[str]

    @property
    def limit_name(self) -> str:
        return "max_output_tokens"

    def places(self) -> list[str]:
        return self.origins


def chat_fields(body: ResponseRequest) -> ResponseChat:
    """Translate a body.

    Raises:
        ApiError: naming the field.
    """
    for name in ("previous_response_id", "conversation", "prompt"):
        if getattr(body, name) is not None:
            raise wrong(name, "not supported: no answer is stored here. Send the whole conversation as input")
    if body.background:
        raise wrong("background", "not supported: an answer comes with its request. Leave it out")
    if body.truncation not in (None, "disabled"):
        raise wrong("truncation", "expected disabled: no part of the input is dropped unasked")
    if body.top_logprobs or LOGPROBS in (body.include or ()):
        raise wrong("top_logprobs", "not supported here. Ask /v1/chat/completions for log-probabilities")
    if body.max_tool_calls is not None:
        raise wrong("max_tool_calls", "not supported. Leave it out, or set parallel_tool_calls to false")
    messages, origins = _messages(body)
    return ResponseChat(
        messages=messages,
        origins=origins,
        model=body.model,
        max_completion_tokens=body.max_output_tokens,
        tools=None if body.tools is None else [_tool(f"tools[{n}]", tool) for n, tool in enumerate(body.tools)],
        tool_choice=body.tool_choice,
        parallel_tool_calls=body.parallel_tool_calls,
        temperature=body.temperature,
        top_p=body.top_p,
        response_format=_format(body),
        stream=body.stream,
        stream_options=body.stream_options,
        reasoning_effort=(body.reasoning or {}).get("effort"),
    )


def _format(body: ResponseRequest) -> dict[str, Any] | None:
    """Nest a flat format as chat does."""
    given = None if body.text is None else body.text.format
    if given is None or given.get("type") != "json_schema":
        return given
    return {"type": "json_schema", "json_schema": {name: value for name, value in given.items() if name != "type"}}


def _messages(body: ResponseRequest) -> tuple[list[Message], list[str]]:
    messages: list[Message] = []
    origins: list[str] = []
    if body.instructions is not None:
        messages.append(Message(role="system", content=body.instructions))
        origins.append("instructions")
    items = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    if not items:
        raise wrong("input", "expected one or more items, got none")
    for number, item in enumerate(items):
        place = "input" if isinstance(body.input, str) else f"input[{number}]"
        message = _message(place, item)
        # The calls of one turn are items of their own.
        if message.tool_calls and messages and messages[-1].role == "assistant":
            messages[-1].tool_calls = [*(messages[-1].tool_calls or ()), *message.tool_calls]
            continue
        messages.append(message)
        origins.append(place)
    return messages, origins


def _message(place: str, item: Any) -> Message:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind == "message":
        role, content = item.get("role"), item.get("content")
        if not isinstance(role, str):
            raise wrong(f"{place}.role", "expected a text")
        if not isinstance(content, str | list):
            raise wrong(f"{place}.content", "expected a text or a list of parts")
        return Message(role=role, content=content)
    if kind == "function_call":
        function = {name: item.get(name) for name in ("name", "arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return Message(role="assistant", tool_calls=[call])
    if kind == "function_call_output":
        output, id = item.get("output"), item.get("call_id")
        if not isinstance(id, str):
            raise wrong(f"{place}.call_id", "expected the id of a call, a text")
        if not isinstance(output, str | list):
            raise wrong(f"{place}.output", "expected a text or a list of parts")
        return Message(role="tool", content=output, tool_call_id=id)
    raise wrong(f"{place}.type", f"expected message, function_call or function_call_output, got {str(kind)[:60]!r}")


def _tool(place: str, tool: Any) -> dict[str, Any]:
    """Nest a flat tool as chat does."""
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise wrong(place, 'expected {"type": "function", "name": …, "parameters": {…}}: no tool is built in here')
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
