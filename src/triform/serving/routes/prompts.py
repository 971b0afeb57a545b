"""The forms of the field `prompt`: a text, texts, ids, or lists of ids → a batch."""

from collections.abc import Sequence

import numpy as np

from triform.errors import ContextLengthError, InputError
from triform.inputs import Batch, EncodedText
from triform.serving.call import Call, first_error
from triform.serving.errors import ApiError
from triform.serving.models import ServedModel
from triform.serving.routes.generation_fields import wrong
from triform.tasks.generative.text_generation import TextGeneration, TextGenerationOptions
from triform.tasks.options import with_changes

Prompt = str | list[str | int | list[int]]


def prompts_of(given: Prompt) -> list[str] | list[list[int]]:
    """Return the prompts, one or more: all of them texts, or all of them ids.

    Raises:
        ApiError: texts among ids, or an empty prompt.
    """
    if isinstance(given, str):
        return [given]
    texts = [each for each in given if isinstance(each, str)]
    ids = [each for each in given if isinstance(each, int)]
    lists = [each for each in given if isinstance(each, list)]
    if len(texts) == len(given):
        return texts
    if len(ids) == len(given):
        return [ids]
    if len(lists) == len(given):
        for number, each in enumerate(lists):
            if not each:
                raise wrong(f"prompt[{number}]", "expected one or more ids, got none")
        return lists
    raise wrong("prompt", "expected a text, a list of texts, a list of ids or a list of lists of ids, got a mixture")


async def encode_prompts(call: Call, served: ServedModel, task: TextGeneration, given: Prompt) -> Batch:
    """Encode prompts; ids are used as they are, and texts get the special tokens of the tokenizer.

    Raises:
        ApiError: naming the prompt.
        ContextLengthError: a prompt does not fit.
    """
    prompts = prompts_of(given)
    size = sum(map(len, prompts))
    is_text = isinstance(prompts[0], str)
    assert isinstance(task.options, TextGenerationOptions)
    options = with_changes(task.options, call.long_input(None), task.name)
    try:
        return await call.encode(
            served, lambda: task.preprocess(prompts, options) if is_text else _from_ids(task, prompts), size
        )
    except ContextLengthError:
        raise
    except InputError as error:
        raise first_error("prompt", error) from error


def _from_ids(task: TextGeneration, prompts: Sequence[Sequence[int] | str]) -> Batch:
    size, limit = task.model.spec.input_stack.vocab_size, task.model.spec.input_stack.context_length
    for number, prompt in enumerate(prompts):
        for place, id in enumerate(prompt):
            if not isinstance(id, int) or not 0 <= id < size:
                where = f"prompt[{place}]" if len(prompts) == 1 else f"prompt[{number}][{place}]"
                raise wrong(where, f"expected an id from 0 to {size - 1}, got {id}")
        if limit is not None and len(prompt) > limit:
            raise ApiError(
                400,
                f"prompt: {len(prompt)} ids are more than the model's context of {limit}. Send fewer.",
                code="context_length_exceeded",
                param="prompt",
                extra={"n_prompt_tokens": len(prompt), "n_ctx": limit},
            )
    return Batch.from_ids([np.array(prompt, np.int64) for prompt in prompts])


def text_of(task: TextGeneration, batch: Batch, prompt: int) -> str:
    """Return the text of a prompt, as it was given or decoded."""
    if batch.sources:
        source = batch.sources[prompt]
        assert isinstance(source, EncodedText)
        if not source.dropped:
            return source.text
    begin, end = list(batch.spans.pairs())[prompt]
    return task.tokenizer.decode(batch.ids[begin:end].tolist(), clean_up=False)
