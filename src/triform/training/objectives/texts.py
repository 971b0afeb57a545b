"""What objectives of text share: values of rows, tokens that fit, logits with gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, shown
from triform.inputs import Batch, EncodedText, LongInput, Tokenizer, cut_into_windows
from triform.inputs.text.backend import Text
from triform.model import Model
from triform.networks import Output


def text_in(row: Row, name: str) -> str:
    """A text of a row.

    Raises:
        InputError: there is none, or it is something else.
    """
    value = value_in(row, name)
    if not isinstance(value, str):
        raise InputError(f"{row.where}: {name} is {shown(value)}; expected a text.")
    return value


def texts_in(row: Row, name: str) -> list[str]:
    """A list of texts of a row.

    Raises:
        InputError: there is none, or it is something else.
    """
    value = value_in(row, name)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{row.where}: {name} is {shown(value)}; expected a list of texts.")
    return list(value)


def value_in(row: Row, name: str) -> Any:
    """A value of a row.

    Raises:
        InputError: there is none of this name.
    """
    if row.values.get(name) is None:
        raise InputError(f"{row.where}: {name} is missing; the row has {', '.join(row.values) or 'nothing'}.")
    return row.values[name]


class TextReader:
    """Texts → tokens that fit the model.

    Arguments:
        tokenizer: of the model.
        context_length: the most tokens that the model reads; None for no limit.
        max_length: the most tokens of a sequence, special ones included; without it as many as fit.
        long_input: what to do with a longer text that cannot be read in parts: "error" or "truncate".
        name: of `max_length`, for errors.

    Raises:
        InputError: a max_length that the model does not have, or an unknown way with long texts.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        context_length: int | None,
        *,
        max_length: int | None = None,
        long_input: str = LongInput.ERROR,
        name: str = "max_length",
    ) -> None:
        limit = min((each for each in (context_length, tokenizer.max_length) if each is not None), default=None)
        if max_length is not None and not 0 < max_length <= (limit or max_length):
            raise InputError(f"{name}={max_length}: expected a number of tokens, at most {limit or 'any'}.")
        if long_input not in (LongInput.ERROR, LongInput.TRUNCATE):
            raise InputError(f"long_input={long_input!r}: expected error or truncate.")
        self.tokenizer = tokenizer
        self.max_length = max_length or limit
        self._long_input = LongInput(long_input)

    def read(self, row: Row, text: Text) -> EncodedText:
        """A text, or a pair, whole or cut as `long_input` allows."""
        with of_row(row):
            return self.tokenizer.encode([text], max_length=self.max_length, long_input=self._long_input)[0]

    def read_in_windows(self, row: Row, text: Text, *, overlap: int | None) -> list[EncodedText]:
        """A text of any length, or a pair of which the second may have any, as `cut_into_windows` does."""
        with of_row(row):
            whole = self.tokenizer.encode([text])[0]
            return cut_into_windows(whole, max_length=self.max_length, overlap=overlap)


def reader_of(
    model: Model, tokenizer: Tokenizer, *, max_length: int | None = None, long_input: str = LongInput.ERROR
) -> TextReader:
    """That of what a model reads."""
    return TextReader(tokenizer, model.spec.input_stack.context_length, max_length=max_length, long_input=long_input)


@contextmanager
def of_row(row: Row) -> Iterator[None]:
    """What is wrong with a text is told with its row."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{row.where}: {error}") from error


def pack(ids: Sequence[Integers], segment_ids: Sequence[Integers] | None = None) -> Batch:
    """Sequences as one batch."""
    segments = None if segment_ids is None else [each.tolist() for each in segment_ids]
    return Batch.from_ids([each.tolist() for each in ids], segments)


def forward(model: Model, *batches: Batch, logits_at: Integers | None = None) -> Output:
    """A pass with gradients: of one batch, or of source and target."""
    network: Any = model.network
    output: Output = network(*batches, logits_at=logits_at)
    return output


def logits_of(model: Model, *batches: Batch, logits_at: Integers | None = None) -> torch.Tensor:
    """The logits of such a pass."""
    logits = forward(model, *batches, logits_at=logits_at).logits
    assert isinstance(logits, torch.Tensor)
    return logits


def tensor(model: Model, values: Any) -> torch.Tensor:
    """Numbers where the model is."""
    moved: torch.Tensor = model.engine.asarray(values)
    return moved
