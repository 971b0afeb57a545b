"""OpenAI's completions. https://platform.openai.com/docs/api-reference/completions."""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from triform.generation import Request, Score
from triform.inputs import Batch
from triform.serving.call import Call
from triform.serving.endpoint import Route, Stream
from triform.serving.models import ServedModel
from triform.serving.routes.chat_run import FINISH
from triform.serving.routes.generated_text import GeneratedText
from triform.serving.routes.generation_fields import GenerationFields, limit_of, requests_for, settings_of, wrong
from triform.serving.routes.log_probabilities import completion_logprobs, prompt_tokens
from triform.serving.routes.prompts import Prompt, encode_prompts, prompts_of, text_of
from triform.serving.routes.structured_output import find_grammar, response_form
from triform.serving.routes.usage import num_cached, timings, usage
from triform.serving.sse import event
from triform.serving.tokens import Tokens
from triform.tasks.generative.text_generation import TextGeneration

DEFAULT_TOKENS = 16
ANSWER_SIZE = 200
"""Characters that take as long to tokenize as an answer to prepare."""


class CompletionRequest(GenerationFields, kw_only=True, forbid_unknown_fields=True):
    """The body."""

    prompt: Prompt
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None


async def completions(call: Call, body: CompletionRequest) -> dict[str, Any] | Stream:
    """Continue each prompt."""
    served = call.find(body.model, "text-generation")
    task = served.task("text-generation")
    assert isinstance(task, TextGeneration)
    call.task_name = task.name
    settings = settings_of(body, task.model)
    _check(body)
    num_prompts = len(prompts_of(body.prompt))
    call.check_count(num_prompts, "prompt")
    if num_prompts * body.num_answers > call.settings.max_inputs:
        raise wrong("n", f"expected at most {call.settings.max_inputs} answers to all prompts. Send fewer prompts")
    form = response_form(body.response_format, body.structured_outputs)
    grammar = await find_grammar(call, task.tokenizer, form, None)
    batch = await encode_prompts(call, served, task, body.prompt)

    def prepare() -> CompletionWriter:
        requests: list[Request] = []
        if body.max_tokens != 0:
            requests = requests_for(
                task.model,
                batch,
                num_answers=body.num_answers,
                log_probabilities=body.logprobs is not None,
                num_alternatives=body.logprobs or 0,
                grammar=grammar,
                **settings,
                **limit_of(body.max_tokens, DEFAULT_TOKENS),
            )
        return CompletionWriter(call, served, task, body, batch, requests)

    writer = await call.in_pool(prepare, num_prompts * body.num_answers * ANSWER_SIZE)
    writer.begin()
    return Stream(writer.events()) if body.stream else await writer.answer()


def _check(body: CompletionRequest) -> None:
    if body.suffix:
        raise wrong("suffix", "not supported: no model here was trained to fill in text. Leave it out")
    if body.best_of is not None and body.best_of != body.num_answers:
        raise wrong("best_of", f"expected {body.num_answers}, as n, got {body.best_of}. Leave it out")
    if body.logprobs is not None and not 0 <= body.logprobs <= 20:
        raise wrong("logprobs", f"expected 0 to 20, got {body.logprobs}")
    if body.max_tokens is not None and body.max_tokens < 0:
        raise wrong("max_tokens", f"expected at least 0, got {body.max_tokens}")


class CompletionWriter:
    """Runs the requests of completions, and writes the answer, whole or in events."""

    def __init__(
        self,
        call: Call,
        served: ServedModel,
        task: TextGeneration,
        body: CompletionRequest,
        batch: Batch,
        requests: Sequence[Request],
    ) -> None:
        self._call = call
        self._served = served
        self._body = body
        self._batch = batch
        self._requests = requests
        self._tokens: Tokens | None = None
        self._tokenizer = task.tokenizer
        self._prompts = [batch.ids[begin:end].tolist() for begin, end in batch.spans.pairs()]
        self._texts = [
            GeneratedText(
                tokenizer=task.tokenizer,
                stops=body.stops,
                end_tokens=requests[0].config.eos_token_id if requests else (),
                before=prompt,
            )
            for prompt in self._prompts
            for _ in range(body.num_answers)
        ]
        self._echoes = [
            text_of(task, batch, number // body.num_answers) if body.echo else "" for number in range(len(self._texts))
        ]
        self._scores: list[Score] = []
        """Of the prompts, where they are part of the answer and log-probabilities are asked for."""
        self._offsets = [0] * len(self._texts)
        """Characters of each choice whose tokens are written."""
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": served.fingerprint,
        }

    def begin(self) -> None:
        """Submit the requests to the executor."""
        if self._requests:
            self._tokens = self._call.begin_generation(self._served, self._requests, priority=self._body.priority or 0)

    async def answer(self) -> dict[str, Any]:
        """Run to the end, and write the whole answer."""
        await self._score()
        async for _ in self._pieces():
            pass
        choices = [
            self._choice(number, echo + text.text, self._finish_reason(number), has_prompt=bool(self._scores))
            for number, (echo, text) in enumerate(zip(self._echoes, self._texts, strict=True))
        ]
        return {**self._head, "choices": choices, "usage": self._usage(), **self._timings()}

    async def events(self) -> AsyncIterator[bytes]:
        """Write the answer in events: pieces of text, and the reason of the end, by choice."""
        options = self._body.stream_options
        await self._score()
        for number, echo in enumerate(self._echoes):
            if echo:
                yield self._chunk([self._choice(number, echo, None, has_prompt=bool(self._scores))])
        async for number, piece in self._pieces():
            if piece:
                yield self._chunk([self._choice(number, piece, None)])
            if (reason := self._finish_reason(number)) is not None:
                yield self._chunk([self._choice(number, "", reason)])
        if self._tokens is None:
            for number in range(len(self._texts)):
                yield self._chunk([self._choice(number, "", "length")])
        if options is not None and options.include_usage:
            yield event({**self._head, "choices": [], "usage": self._usage(), **self._timings()})

    async def _pieces(self) -> AsyncIterator[tuple[int, str]]:
        """Yield the number of a choice, and new text of it, for each token."""
        if self._tokens is None:
            return
        async for step in self._tokens:
            for token in step:
                if (text := self._texts[token.sequence]).finish_reason is None:
                    yield token.sequence, text.add(token)
            if all(text.finish_reason is not None for text in self._texts):
                break
        self._call.end_generation(self._tokens)

    def _finish_reason(self, number: int) -> str | None:
        reason = self._texts[number].finish_reason
        if reason is None:
            return "length" if self._tokens is None else None
        return FINISH[reason]

    async def _score(self) -> None:
        """Compute the log-probabilities of the prompts, if they are asked for."""
        if self._body.echo and self._body.logprobs is not None:
            priority = self._body.priority or 0
            self._scores = await self._call.scores(self._served, self._batch, self._body.logprobs, priority=priority)

    def _choice(self, number: int, text: str, finish_reason: str | None, *, has_prompt: bool = False) -> dict[str, Any]:
        """Write a choice with the tokens not written yet, and those of the prompt on request."""
        logprobs = None
        if self._body.logprobs is not None:
            tokens = self._texts[number].take_tokens()
            if has_prompt:
                prompt = number // self._body.num_answers
                tokens = [*prompt_tokens(self._tokenizer, self._prompts[prompt], self._scores[prompt]), *tokens]
            logprobs = completion_logprobs(self._tokenizer, tokens, self._offsets[number])
            self._offsets[number] += sum(len(token.text) for token in tokens)
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}

    def _chunk(self, choices: list[dict[str, Any]]) -> bytes:
        options = self._body.stream_options
        chunk: dict[str, Any] = {**self._head, "choices": choices}
        if options is not None and options.continuous_usage_stats:
            chunk["usage"] = self._usage()
        elif options is not None and options.include_usage:
            chunk["usage"] = None
        return event(chunk)

    @property
    def _num_cached(self) -> int:
        return num_cached(self._requests, len(self._batch)) if self._requests else 0

    @property
    def _num_new(self) -> int:
        return sum(text.num_tokens for text in self._texts)

    def _usage(self) -> dict[str, Any]:
        return usage(self._batch.num_rows, self._num_new, self._num_cached)

    def _timings(self) -> dict[str, Any]:
        if self._tokens is None:
            return {}
        return {"timings": timings(self._tokens, self._batch.num_rows, self._num_new, self._num_cached)}


ROUTES = (
    Route(
        paths=["/v1/completions", "/completions"],
        body=CompletionRequest,
        handler=completions,
        summary="Continuations of prompts, as OpenAI gives them.",
    ),
)
