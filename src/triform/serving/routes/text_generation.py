"""text-generation-inference: /generate, /generate_stream, and text generation of Hugging Face's inference.

https://huggingface.github.io/text-generation-inference. A setting that the caller leaves out is the model's own.
"""

import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from typing import Any

import msgspec

from triform.generation import FinishReason
from triform.inputs import Batch, EncodedText
from triform.serving.call import SMALL, Call
from triform.serving.endpoint import Route, Stream
from triform.serving.errors import ApiError, Dialect
from triform.serving.models import ServedModel
from triform.serving.parameters import options_of
from triform.serving.routes.generated_text import GeneratedText
from triform.serving.routes.log_probabilities import IMPOSSIBLE
from triform.serving.sse import event
from triform.serving.texts import cut_text, text_task
from triform.serving.tokens import Tokens
from triform.tasks.generative.text_generation import TextGeneration, TextGenerationOptions
from triform.tasks.options import with_changes
from triform.tasks.runner import num_characters

TASK = "text-generation"
WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "adapter_id": (),
    "best_of": (1,),
    "decoder_input_details": (False,),
    "top_n_tokens": (0,),
    "typical_p": (1.0,),
    "watermark": (False,),
}
"""Parameters that are not implemented → values that mean nothing, which are accepted."""
OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p")
"""Parameters of which each turns on sampling, unless `do_sample` is given."""


class GenerateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    inputs: str
    parameters: dict[str, Any] | None = None
    stream: bool | None = None
    model: str | None = None


async def generate_whole(call: Call, body: GenerateRequest) -> Any:
    """Answer with the text, or in events where `stream` is set."""
    return await _generate(call, body, streams=bool(body.stream))


async def generate_stream(call: Call, body: GenerateRequest) -> Any:
    """Answer in events."""
    return await _generate(call, body, streams=True)


async def _generate(call: Call, body: GenerateRequest, *, streams: bool) -> Any:
    served = call.find(body.model, TASK)
    parameters = {name: value for name, value in (body.parameters or {}).items() if value is not None}
    return await generate(call, served, body.inputs, parameters, streams=streams, as_list=False)


async def generate(
    call: Call, served: ServedModel, inputs: Any, parameters: Mapping[str, Any], *, streams: bool, as_list: bool
) -> Any:
    """Answer prompts.

    Arguments:
        call: the call.
        served: the model.
        inputs: a prompt, or a list of prompts; a prompt is a text or a conversation.
        parameters: without nulls.
        streams: whether to answer in events.
        as_list: whether the answer to one prompt is a list of one.
    """
    task = text_task(served.task(TASK))
    assert isinstance(task, TextGeneration)
    options = _options(call, {name: value for name, value in parameters.items() if name != "truncate"})
    is_one = task.is_one(inputs, task.options)
    if not is_one and not isinstance(inputs, list):
        raise ApiError(400, "inputs: expected a text, a list of messages, or a list of those.", param="inputs")
    prompts = [inputs] if is_one else inputs
    call.check_count(len(prompts), "inputs")
    if (most := parameters.get("truncate")) is not None:
        prompts = await _cut(call, task, prompts, most)
    if streams:
        if not is_one:
            raise ApiError(400, "inputs: expected one prompt, as stream is set.", param="inputs")
        return await _stream(call, served, task, prompts[0], options)
    answers = await call.answers(served, task, prompts, **options)
    shaped = [[_answer(task, each, options) for each in answer] for answer in answers]
    if is_one:
        return shaped[0] if as_list else shaped[0][0]
    return shaped


def _options(call: Call, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Read parameters as options of the task.

    Raises:
        ApiError: naming a parameter that is unknown or not implemented.
    """
    given = dict(parameters)
    own = {option.name for option in fields(TextGenerationOptions)}
    for name, harmless in WITHOUT_EFFECT.items():
        if name in given and name not in own and given.pop(name) not in harmless:
            at = f"parameters.{name}"
            raise ApiError(400, f"{at}: not implemented. Leave it out.", param=at)
    options: dict[str, Any] = {"return_full_text": False, **call.long_input(None)}
    if "grammar" in given:
        options |= _grammar(given.pop("grammar"))
    if "do_sample" not in given and any(name in given for name in OF_SAMPLING):
        options["do_sample"] = True
    if "details" in given and not isinstance(given["details"], bool):
        raise ApiError(400, "parameters.details: expected true or false.", param="parameters.details")
    return {**options, **options_of(TextGeneration, given)}


def _grammar(given: Any) -> dict[str, Any]:
    """Read the form that an answer must have, as an option of the task."""
    kind, value = (given.get("type"), given.get("value")) if isinstance(given, dict) else (None, None)
    if kind in ("json", "json_object") and isinstance(value, dict):
        return {"schema": value}
    if kind == "json_schema" and isinstance(value, dict):
        return {"schema": value.get("schema", value)}
    if kind == "regex" and isinstance(value, str):
        return {"regex": value}
    at = "parameters.grammar"
    expected = '{"type": "json", "value": a JSON schema} or {"type": "regex", "value": a regular expression}'
    raise ApiError(400, f"{at}: expected {expected}.", param=at)


async def _cut(call: Call, task: TextGeneration, prompts: list[Any], most: Any) -> list[Any]:
    """Cut prompts to their last tokens."""
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        at = "parameters.truncate"
        raise ApiError(400, f"{at}: expected a whole number of at least 1, got {most!r}.", param=at)
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise ApiError(400, "parameters.truncate: a conversation is not cut.", param="parameters.truncate")

    def work() -> list[tuple[str, int]]:
        return [cut_text(task.tokenizer, prompt, most, "left") for prompt in prompts]

    cut = await call.in_pool(work, sum(map(len, prompts)))
    call.count_dropped(sum(dropped for _, dropped in cut))
    return [prompt for prompt, _ in cut]


def _answer(task: TextGeneration, answer: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    shaped = {"generated_text": answer["generated_text"]}
    if "tokens" not in answer:
        return shaped
    tokens = [_token(task, each["id"], each["text"], each["log_probability"]) for each in answer["tokens"]]
    last_is_special = bool(tokens) and tokens[-1]["special"]
    details = {
        "finish_reason": finish_reason(answer["finish_reason"], last_is_special=last_is_special),
        "generated_tokens": len(tokens),
        "seed": options.get("seed"),
        "prefill": [],
        "tokens": tokens,
    }
    return {**shaped, "details": details}


async def _stream(
    call: Call, served: ServedModel, task: TextGeneration, prompt: Any, options: Mapping[str, Any]
) -> Stream:
    """Answer a prompt in events, once it is admitted."""
    chosen = with_changes(task.options, {**options, "details": True}, task.name)
    assert isinstance(chosen, TextGenerationOptions)
    call.task_name = task.name

    batch = await call.encode(served, lambda: task.preprocess([prompt], chosen), num_characters([prompt]))
    # A grammar takes long to compile.
    has_grammar = chosen.schema is not None or chosen.regex is not None
    requests = await call.in_pool(lambda: task.requests(batch, chosen), SMALL + 1 if has_grammar else 0)
    if requests[0].num_branches > 1:
        raise ApiError(400, "stream: several answers or beams are given whole. Leave it out.", param="stream")
    tokens = call.begin_generation(served, requests)
    return Stream(_events(call, task, batch, chosen, tokens), end=b"")


async def _events(
    call: Call, task: TextGeneration, batch: Batch, options: TextGenerationOptions, tokens: Tokens
) -> AsyncIterator[bytes]:
    """Write an event for each token; the texts of all tokens joined are the text, and the last event has it whole."""
    [request] = tokens.job.requests
    [source] = batch.sources_of(EncodedText)
    end_tokens = request.config.eos_token_id
    text = GeneratedText(
        tokenizer=task.tokenizer,
        stops=(options.stop,) if isinstance(options.stop, str) else options.stop or (),
        end_tokens=end_tokens,
        before=source.ids.tolist() if source.messages is None else (),
    )
    index = 0
    async for step in tokens:
        for token in step:
            text.add(token)
            rows = [_token(task, *each[:3]) for each in text.take_tokens()]
            reason = text.finish_reason
            is_end = reason == FinishReason.STOP and token.id in end_tokens
            if reason is not None and (is_end or not rows):
                # The text is complete, and every event has a token.
                rows.append(_token(task, token.id, "", token.log_probability))
            for place, row in enumerate(rows, start=1):
                index += 1
                written = {"index": index, "token": row, "generated_text": None, "details": None}
                if reason is not None and place == len(rows):
                    prompt = source.text if options.return_full_text and source.messages is None else ""
                    written["generated_text"] = prompt + text.text
                    written["details"] = {
                        "finish_reason": finish_reason(reason, last_is_special=is_end),
                        "generated_tokens": text.num_tokens,
                        "input_length": batch.num_rows,
                        "seed": options.seed,
                    }
                yield event(written)
            if reason is not None:
                call.end_generation(tokens)
                return


def _token(task: TextGeneration, id: int, text: str, log_probability: float | None) -> dict[str, Any]:
    value = 0.0 if log_probability is None else log_probability
    return {
        "id": id,
        "text": text,
        "logprob": value if math.isfinite(value) else IMPOSSIBLE,
        "special": task.tokenizer.token_of(id) in task.tokenizer.special_tokens,
    }


def finish_reason(reason: str, *, last_is_special: bool) -> str:
    """Name the reason for the end as text-generation-inference does; a limit of any kind is `length`."""
    if reason != FinishReason.STOP:
        return "length"
    return "eos_token" if last_is_special else "stop_sequence"


def _route(path: str, handler: Any, summary: str) -> Route:
    return Route(paths=[path], body=GenerateRequest, handler=handler, dialect=Dialect.HUGGING_FACE, summary=summary)


ROUTES = (
    _route("/generate", generate_whole, "A text that goes on, or events where stream is set."),
    _route("/generate_stream", generate_stream, "A text that goes on, in events."),
)
