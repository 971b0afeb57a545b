"""OpenAI's responses. https://platform.openai.com/docs/api-reference/responses. Nothing is stored."""

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from triform.serving.call import Call
from triform.serving.endpoint import Route, Stream
from triform.serving.errors import api_error
from triform.serving.routes.chat_run import ChatRun, begin_chat
from triform.serving.routes.response_input import ResponseRequest, chat_fields
from triform.serving.routes.tool_calls import ToolCall
from triform.serving.sse import event


async def responses(call: Call, body: ResponseRequest) -> dict[str, Any] | Stream:
    """Answer the input."""
    run = await begin_chat(call, chat_fields(body))
    writer = ResponseWriter(run, body)
    if body.stream:
        return Stream(writer.events(), end=b"")
    async for _ in writer.steps():
        pass
    return writer.answer()


class ResponseWriter:
    """Writes an answer item by item; the whole answer is what the events add up to."""

    def __init__(self, run: ChatRun, body: ResponseRequest) -> None:
        self._run = run
        self._body = body
        self._id = f"resp_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._output: list[dict[str, Any]] = []
        self._is_open = False
        """Whether the last item is a message that goes on."""
        self._count = 0
        """Events written."""

    async def events(self) -> AsyncIterator[bytes]:
        """Write the answer in events. An error is an event of its own, after which it is raised."""
        for kind in ("created", "in_progress"):
            yield self._lifecycle(kind, self._answer("in_progress"))
        try:
            async for kind, data in self.steps():
                yield self._event(kind, data)
        except Exception as error:
            known = api_error(error)
            failed = {**self._answer("failed"), "error": {"code": "server_error", "message": known.message}}
            yield self._lifecycle("failed", failed)
            raise
        answer = self.answer()
        yield self._lifecycle(answer["status"], answer)

    async def steps(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Run to the end, and yield the type and the data of each event about items."""
        run = self._run
        async for step in run.tokens:
            for _, content, calls in run.add_step(step):
                if content:
                    for each in self._add_text(content):
                        yield each
                for call in calls:
                    for each in (*self._close_message(), *self._add_call(call)):
                        yield each
            if run.is_over:
                break
        run.call.end_generation(run.tokens)
        if not self._output:
            for each in self._add_text(""):
                yield each
        for each in self._close_message():
            yield each

    def answer(self) -> dict[str, Any]:
        """Write the whole answer."""
        is_whole = self._run.choices[0].finish_reason != "length"
        return self._answer("completed" if is_whole else "incomplete")

    def _answer(self, status: str) -> dict[str, Any]:
        body, run = self._body, self._run
        is_over = status in ("completed", "incomplete")
        config = run.requests[0].config
        cached = run.num_cached_tokens
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": run.served.name,
            "output": [dict(item) for item in self._output],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": (body.reasoning or {}).get("effort"), "summary": None},
            "store": False,
            "temperature": config.temperature if config.do_sample else 0.0,
            "text": {"format": (body.text and body.text.format) or {"type": "text"}},
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_p": config.top_p,
            "truncation": "disabled",
            "usage": {
                "input_tokens": run.num_prompt_tokens,
                "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
                "output_tokens": run.num_completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": run.num_prompt_tokens + run.num_completion_tokens,
            }
            if is_over
            else None,
        }

    def _add_text(self, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self._is_open:
            self._is_open = True
            item = {"type": "message", "id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "status": "in_progress"}
            self._output.append({**item, "content": []})
            yield "output_item.added", {"output_index": self._last, "item": {**item, "content": []}}
            self._output[-1]["content"] = [_part("")]
            yield "content_part.added", {**self._place(), "part": _part("")}
        if text:
            part = self._output[-1]["content"][0]
            self._output[-1]["content"] = [_part(part["text"] + text)]
            yield "output_text.delta", {**self._place(), "delta": text, "logprobs": []}

    def _close_message(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self._is_open:
            return
        self._is_open = False
        item = self._output[-1]
        [part] = item["content"]
        is_cut = self._run.choices[0].finish_reason == "length"
        item["status"] = "incomplete" if is_cut else "completed"
        yield "output_text.done", {**self._place(), "text": part["text"], "logprobs": []}
        yield "content_part.done", {**self._place(), "part": part}
        yield "output_item.done", {"output_index": self._last, "item": item}

    def _add_call(self, call: ToolCall) -> Iterator[tuple[str, dict[str, Any]]]:
        id = f"fc_{uuid.uuid4().hex}"
        head = {"type": "function_call", "id": id, "call_id": call.id, "name": call.name}
        item = {**head, "arguments": call.arguments, "status": "completed"}
        self._output.append(item)
        place = {"item_id": id, "output_index": self._last}
        added = {**head, "arguments": "", "status": "in_progress"}
        yield "output_item.added", {"output_index": self._last, "item": added}
        yield "function_call_arguments.delta", {**place, "delta": call.arguments}
        yield "function_call_arguments.done", {**place, "name": call.name, "arguments": call.arguments}
        yield "output_item.done", {"output_index": self._last, "item": item}

    @property
    def _last(self) -> int:
        return len(self._output) - 1

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": self._last, "content_index": 0}

    def _lifecycle(self, kind: str, answer: dict[str, Any]) -> bytes:
        return self._event(kind, {"response": answer})

    def _event(self, kind: str, data: dict[str, Any]) -> bytes:
        name = f"response.{kind}"
        self._count += 1
        return event({"type": name, "sequence_number": self._count - 1, **data}, name=name)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


ROUTES = (
    Route(
        paths=["/v1/responses", "/responses"],
        body=ResponseRequest,
        handler=responses,
        summary="An answer item by item, as OpenAI gives it; nothing is stored.",
    ),
)
