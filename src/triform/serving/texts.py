"""Texts and ids of requests: which a body holds, prompts before them, and cuts that the caller asks for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from triform.errors import ContextLengthError, InputError
from triform.inputs import Batch, EncodedText, LongInput, Tokenizer, pack_texts
from triform.inputs.text.backend import Side
from triform.serving.errors import ApiError
from triform.serving.models import ServedModel
from triform.tasks import Task
from triform.tasks.sequence_level.sentence_embedding import SentenceEmbedding
from triform.tasks.text_task import TextTask

Given = TypeVar("Given", str, list[int])

Inputs = str | list[str | int | list[int]]
"""A text, the ids of one text, or a list of texts or of ids."""


def read_inputs(given: Inputs, param: str = "inputs") -> list[str] | list[list[int]]:
    """Read texts, or the ids of texts; a list may not hold both.

    Raises:
        ApiError: an empty text, an empty list of ids, or a mixture; naming the field.
    """
    if isinstance(given, str):
        return [_not_empty(given, param)]
    ids = [each for each in given if isinstance(each, int)]
    if ids:
        if len(ids) < len(given):
            raise ApiError(400, f"{param}: expected texts, or ids, got both.", param=param)
        return [ids]
    lists = [each for each in given if isinstance(each, list)]
    if lists and len(lists) < len(given):
        raise ApiError(400, f"{param}: expected texts, or lists of ids, got both.", param=param)
    if lists:
        return [_not_empty(each, f"{param}[{number}]") for number, each in enumerate(lists)]
    texts = [each for each in given if isinstance(each, str)]
    return [_not_empty(each, f"{param}[{number}]") for number, each in enumerate(texts)]


def _not_empty(given: Given, param: str) -> Given:
    if not given:
        expected = "a text" if isinstance(given, str) else "one or more ids"
        raise ApiError(400, f"{param}: expected {expected}, got an empty one.", param=param)
    return given


@contextmanager
def naming(option: str, param: str) -> Iterator[None]:
    """Let an error about an option name the field of the body that has set the option.

    Raises:
        ApiError: naming the field.
    """
    try:
        yield
    except InputError as error:
        if not str(error).startswith(f"{option}="):
            raise
        raise ApiError(400, str(error).replace(option, param, 1), param=param) from error


def tokenizer_of(served: ServedModel) -> Tokenizer:
    """Return the tokenizer of a model's texts."""
    return text_task(served.main_task).tokenizer


def text_task(task: Task[Any, Any]) -> TextTask[Any, Any]:
    """Return a task as a task of texts, which all tasks are."""
    assert isinstance(task, TextTask)
    return task


def prompt_of(served: ServedModel, name: str | None) -> str:
    """Return the prompt of a name, or the model's default without a name, or the empty string.

    Raises:
        ApiError: the model has no prompt of that name.
    """
    task = served.tasks.get(SentenceEmbedding.name)
    settings = task.recipe.settings if isinstance(task, SentenceEmbedding) else None
    prompts = {} if settings is None else settings.prompts
    if name is None:
        default = None if settings is None else settings.default_prompt
        return "" if default is None else prompts[default]
    if name not in prompts:
        known = ", ".join(prompts) or "none"
        raise ApiError(400, f"prompt_name={name!r}: the model brings these prompts: {known}.", param="prompt_name")
    return prompts[name]


def check_ids(served: ServedModel, ids: Sequence[int], param: str) -> None:
    """Refuse ids that are not in the model's vocabulary.

    Raises:
        ApiError: naming the field and the id.
    """
    size = served.model.spec.input_stack.vocab_size
    for number, id in enumerate(ids):
        if not 0 <= id < size:
            at = f"{param}[{number}]"
            raise ApiError(400, f"{at}: expected an id of the vocabulary, 0 to {size - 1}, got {id}.", param=at)


def text_of_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> EncodedText:
    """Make a text of ids as they are, special ones included; none are added."""
    length = len(ids)
    return EncodedText(
        text=tokenizer.decode(ids, skip_special_tokens=False),
        pair=None,
        ids=np.array(ids, np.int64),
        token_type_ids=np.zeros(length, np.int64),
        tokens=tuple(tokenizer.token_of(id) or "" for id in ids),
        characters=np.zeros((length, 2), np.int64),
        sequence_ids=(0,) * length,
        words=(None,) * length,
    )


def encoder(
    task: TextTask[Any, Any], prompt: str, *, cuts: bool, side: Side | None
) -> Callable[[Sequence[Any], Any], Batch]:
    """Make a function that encodes texts behind a prompt, or ids as they are, and cuts long ones or refuses them."""
    limit = task.limit()

    def encode(inputs: Sequence[Any], options: Any) -> Batch:
        if isinstance(inputs[0], str):
            long_input = LongInput.TRUNCATE if cuts else LongInput.ERROR
            texts = [prompt + text for text in inputs]
            return pack_texts(task.tokenizer.encode(texts, max_length=limit, long_input=long_input, side=side))
        return pack_texts([_fitted(text_of_ids(task.tokenizer, ids), limit, cuts=cuts, side=side) for ids in inputs])

    return encode


def _fitted(text: EncodedText, limit: int | None, *, cuts: bool, side: Side | None) -> EncodedText:
    length = len(text.ids)
    if limit is None or length <= limit:
        return text
    if not cuts:
        raise ContextLengthError(f"inputs: {length} ids are more than the {limit} that fit.", length, limit)
    kept = slice(length - limit, None) if side == "left" else slice(limit)
    return replace(
        text,
        ids=text.ids[kept],
        token_type_ids=text.token_type_ids[kept],
        tokens=text.tokens[kept],
        characters=text.characters[kept],
        sequence_ids=text.sequence_ids[kept],
        words=None if text.words is None else text.words[kept],
        dropped=length - limit,
    )


def cut_text(tokenizer: Tokenizer, text: str, most: int, side: Side = "right") -> tuple[str, int]:
    """Cut a text to its first or last tokens → the text, and how many tokens it has lost."""
    if not text:
        return text, 0
    [encoded] = tokenizer.encode([text])
    places = [place for place, own in zip(encoded.characters.tolist(), encoded.sequence_ids, strict=True) if own == 0]
    dropped = len(places) - most
    if dropped <= 0:
        return text, 0
    if side == "left":
        return text[places[dropped][0] :], dropped
    return text[: places[most - 1][1]], dropped


def side_of(given: str | None, param: str = "truncation_direction") -> Side | None:
    """Read the end to cut, in upper or lower case; None for the model's own.

    Raises:
        ApiError: another word.
    """
    if given is None:
        return None
    for side in ("left", "right"):
        if given.lower() == side:
            return "left" if side == "left" else "right"
    raise ApiError(400, f"{param}: expected left or right, got {given!r}.", param=param)
