"""OpenAI's chat completions. https://platform.openai.com/docs/api-reference/chat."""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from triform.serving.call import Call
from triform.serving.endpoint import Route, Stream
from triform.serving.routes.chat_run import ChatFields, ChatRun, Choice, begin_chat
from triform.serving.routes.generation_fields import wrong
from triform.serving.routes.log_probabilities import chat_logprobs
from triform.serving.routes.openai_tools import call_as_json
from triform.serving.routes.tool_calls import ToolCall
from triform.serving.routes.usage import usage
from triform.serving.sse import event


class ChatRequest(ChatFields, kw_only=True, forbid_unknown_fields=True):
    """The body. The fields of the last group change no answer and are not read."""

    modalities: list[str] | None = None

    verbosity: Any = None
    prediction: Any = None


async def chat(call: Call, body: ChatRequest) -> dict[str, Any] | Stream:
    """Answer a conversation."""
    if body.modalities not in (None, ["text"]):
        raise wrong("modalities", "expected text alone")
    run = await begin_chat(call, body)
    if body.stream:
        return Stream(ChatWriter(run, body).events())
    await run.finish()
    return ChatWriter(run, body).answer()


class ChatWriter:
    """Writes the answer to a conversation, whole or in events."""

    def __init__(self, run: ChatRun, body: ChatRequest) -> None:
        self._run = run
        self._logprobs = body.logprobs or False
        options = body.stream_options
        self._ends_with_usage = options is not None and bool(options.include_usage)
        self._repeats_usage = options is not None and bool(options.continuous_usage_stats)
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": run.served.name,
            "system_fingerprint": run.served.fingerprint,
        }

    def answer(self) -> dict[str, Any]:
        """Write the whole answer."""
        choices = []
        for choice in self._run.choices:
            message: dict[str, Any] = {"role": "assistant", "content": choice.content, "refusal": None}
            if choice.calls:
                message["content"] = choice.content or None
                message["tool_calls"] = [call_as_json(each) for each in choice.calls]
            choices.append(
                {
                    "index": choice.index,
                    "message": message,
                    "finish_reason": choice.finish_reason,
                    "logprobs": self._take_logprobs(choice),
                }
            )
        return {
            **self._head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage(),
            "timings": self._run.timings(),
        }

    async def events(self) -> AsyncIterator[bytes]:
        """Write the answer in events: the role, pieces of text, calls, and the reason of the end, by choice."""
        run = self._run
        # A choice that may be a call alone has no text until text comes.
        first = {"role": "assistant", "content": "" if run.tools is None else None}
        for choice in run.choices:
            yield self._chunk(choice, first)
        async for step in run.tokens:
            for choice, content, calls in run.add_step(step):
                if content:
                    yield self._chunk(choice, {"content": content})
                for delta in self._call_deltas(choice, calls):
                    yield self._chunk(choice, delta)
                if choice.finish_reason is not None:
                    yield self._chunk(choice, {}, is_last=True)
            if run.is_over:
                break
        run.call.end_generation(run.tokens)
        if self._ends_with_usage:
            head = {**self._head, "object": "chat.completion.chunk"}
            yield event({**head, "choices": [], "usage": self._usage(), "timings": run.timings()})

    def _call_deltas(self, choice: Choice, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
        """Write calls: first the name with empty arguments, then the arguments, which clients join."""
        deltas = []
        for index, each in enumerate(calls, len(choice.calls) - len(calls)):
            function = {"name": each.name, "arguments": ""}
            deltas.append({"index": index, "id": each.id, "type": "function", "function": function})
            deltas.append({"index": index, "function": {"arguments": each.arguments}})
        return [{"tool_calls": [delta]} for delta in deltas]

    def _chunk(self, choice: Choice, delta: dict[str, Any], *, is_last: bool = False) -> bytes:
        chunk: dict[str, Any] = {
            **self._head,
            "object": "chat.completion.chunk",
            "choices": [
                {
                    "index": choice.index,
                    "delta": delta,
                    "finish_reason": choice.finish_reason if is_last else None,
                    "logprobs": None if "role" in delta else self._take_logprobs(choice),
                }
            ],
        }
        if self._repeats_usage:
            chunk["usage"] = self._usage()
        elif self._ends_with_usage:
            chunk["usage"] = None
        if is_last and self._run.is_over:
            chunk["timings"] = self._run.timings()
        return event(chunk)

    def _take_logprobs(self, choice: Choice) -> dict[str, Any] | None:
        tokens = choice.take_tokens()
        if not self._logprobs:
            return None
        return {"content": chat_logprobs(self._run.task.tokenizer, tokens), "refusal": None}

    def _usage(self) -> dict[str, Any]:
        run = self._run
        return usage(run.num_prompt_tokens, run.num_completion_tokens, run.num_cached_tokens)


ROUTES = (
    Route(
        paths=["/v1/chat/completions", "/chat/completions", "/models/{model}/v1/chat/completions"],
        body=ChatRequest,
        handler=chat,
        summary="The next message of a conversation, as OpenAI gives it.",
    ),
)
