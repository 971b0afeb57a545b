"""Messages of OpenAI's form → the conversation that a chat template reads."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgspec

from triform.serving.errors import ApiError
from triform.serving.routes.generation_fields import wrong

ROLES = ("system", "developer", "user", "assistant", "tool")


class Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A message. Clients send the assistant's messages back with all fields of the answer, most of them null."""

    role: str
    content: str | list[Any] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    function_call: Any = None
    audio: Any = None
    parsed: Any = None


def conversation(
    messages: Sequence[Message], places: Sequence[str], *, knows: Callable[[str], bool]
) -> list[dict[str, Any]]:
    """Check messages, and give them the form of templates: contents as texts, arguments of calls as objects.

    Arguments:
        messages: one or more.
        places: the place of each in the body, for errors.
        knows: whether the template mentions a name. Without the role developer, such messages are the system's.

    Raises:
        ApiError: naming the message and the field.
    """
    if not messages:
        raise wrong("messages", "expected one or more, got none")
    if not knows("tool_calls"):
        for place, message in zip(places, messages, strict=True):
            if message.tool_calls:
                raise wrong(
                    f"{place}.tool_calls", "this model's chat template would leave calls out. Write them as text"
                )
    has_developer = knows("developer")
    return [_read(place, message, has_developer) for place, message in zip(places, messages, strict=True)]


def _read(place: str, message: Message, has_developer: bool) -> dict[str, Any]:
    if message.role not in ROLES:
        raise wrong(f"{place}.role", f"expected one of {', '.join(ROLES)}, got {message.role[:60]!r}")
    for name in ("function_call", "audio"):
        if getattr(message, name) is not None:
            raise wrong(f"{place}.{name}", "not supported. Send text, and calls as tool_calls")
    role = "system" if message.role == "developer" and not has_developer else message.role
    read: dict[str, Any] = {"role": role, "content": _content(place, message)}
    for name in ("name", "tool_call_id", "reasoning_content", "reasoning"):
        if (value := getattr(message, name)) is not None:
            read[name] = value
    if message.tool_calls:
        if message.role != "assistant":
            raise wrong(f"{place}.tool_calls", f"expected with the role assistant alone, got {message.role}")
        read["tool_calls"] = [_call(f"{place}.tool_calls[{n}]", call) for n, call in enumerate(message.tool_calls)]
    elif read["content"] is None:
        raise wrong(f"{place}.content", "expected a text or a list of parts, got null")
    if message.role == "tool" and message.tool_call_id is None:
        raise wrong(f"{place}.tool_call_id", "expected the id of the call that this message answers, got null")
    return read


def _content(place: str, message: Message) -> str | None:
    """Join the parts of a content."""
    if not isinstance(message.content, list):
        return message.refusal if message.content is None else message.content
    texts = []
    for number, part in enumerate(message.content):
        where = f"{place}.content[{number}]"
        if not isinstance(part, dict):
            raise wrong(where, 'expected a part such as {"type": "text", "text": …}')
        kind = part.get("type")
        if kind not in ("text", "input_text", "output_text", "refusal"):
            raise wrong(f"{where}.type", f"expected text, since the model reads nothing else, got {str(kind)[:60]!r}")
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise wrong(f"{where}.text", "expected a text")
        texts.append(text)
    return "".join(texts)


def _call(place: str, call: Any) -> dict[str, Any]:
    """Read a call of the history; its arguments are JSON in a text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise wrong(place, 'expected {"id": …, "type": "function", "function": {"name": …, "arguments": …}}')
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}", parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise wrong(f"{place}.function.arguments", f"expected JSON in a text: {error}") from error
    if not isinstance(arguments, dict):
        raise wrong(f"{place}.function.arguments", "expected a JSON object in a text")
    return {"id": call.get("id"), "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def no_template(name: str) -> ApiError:
    """Make the error for a model that cannot answer conversations."""
    return ApiError(
        400,
        f"Model {name} has no chat template, so it was not trained for conversations. Send its prompts to "
        "/v1/completions.",
        code="no_chat_template",
        param="model",
    )
