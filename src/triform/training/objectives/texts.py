"""Helpers of text objectives: values of rows, tokens within the context, logits with gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, WrongTaskError, shown
from triform.inputs import Batch, EncodedText, LongInput, Tokenizer, cut_into_windows
from triform.inputs.text.backend import Text
from triform.model import Model
from triform.networks import Output

H = TypeVar("H", bound=spec.Head)


def expect_head(model: Model, kind: type[H]) -> H:
    """Return the model's head, of an expected kind.

    Raises:
        WrongTaskError: the model has another head, or none.
    """
    head = model.spec.head
    if not isinstance(head, kind):
        has = "no head" if head is None else type(head).__name__
        raise WrongTaskError(
            f"{model.checkpoint.source} has {has}; the objective trains a {kind.__name__}. Ask for a new head: "
            f"load_for_training(…, new_head=NewHead(spec.{kind.__name__}, …))."
        )
    return head


def read_text(row: Row, name: str) -> str:
    """Read a text of a row.

    Raises:
        InputError: the row has no such value, or the value is not a text.
    """
    value = read_value(row, name)
    if not isinstance(value, str):
        raise InputError(f"{row.where}: {name} is {shown(value)}; expected a text.")
    return value


def read_texts(row: Row, name: str) -> list[str]:
    """Read a list of texts of a row.

    Raises:
        InputError: the row has no such value, or the value is not a list of texts.
    """
    value = read_value(row, name)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{row.where}: {name} is {shown(value)}; expected a list of texts.")
    return list(value)


def read_value(row: Row, name: str) -> Any:
    """Read a value of a row.

    Raises:
        InputError: the row has no such value.
    """
    if row.values.get(name) is None:
        raise InputError(f"{row.where}: {name} is missing; the row has {', '.join(row.values) or 'nothing'}.")
    return row.values[name]


class TextReader:
    """Reader of texts: tokens within the context of a model.

    Arguments:
        tokenizer: tokenizer of the model.
        context_length: most tokens that the model reads; None for no limit.
        max_length: most tokens of a sequence, special ones included; by default all that fit.
        long_input: what to do with a longer text that is not read in parts: "error" or "truncate".
        name: name of `max_length`, for messages.

    Raises:
        InputError: a max_length beyond the context, or another long_input.
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
        """Encode a text, or a pair, whole or cut as `long_input` allows."""
        with naming_row(row):
            return self.tokenizer.encode([text], max_length=self.max_length, long_input=self._long_input)[0]

    def read_in_windows(self, row: Row, text: Text, *, overlap: int | None) -> list[EncodedText]:
        """Encode a text of any length, or a pair with a long second text, in windows as `cut_into_windows` does."""
        with naming_row(row):
            whole = self.tokenizer.encode([text])[0]
            return cut_into_windows(whole, max_length=self.max_length, overlap=overlap)


def make_reader(
    model: Model, tokenizer: Tokenizer, *, max_length: int | None = None, long_input: str = LongInput.ERROR
) -> TextReader:
    """Make the reader for a model's input texts."""
    return TextReader(tokenizer, model.spec.input_stack.context_length, max_length=max_length, long_input=long_input)


@contextmanager
def naming_row(row: Row) -> Iterator[None]:
    """Put the place of a row before the message of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{row.where}: {error}") from error


def pack(ids: Sequence[Integers], token_type_ids: Sequence[Integers] | None = None) -> Batch:
    """Pack sequences of ids, each of shape (n,), into one batch."""
    return Batch.from_ids(ids, token_type_ids)


def run_network(model: Model, *batches: Batch, logits_at: Integers | None = None) -> Output:
    """Run a model with gradients on a batch, or on source and target.

    Arguments:
        model: a model of `load_for_training`.
        batches: a batch of T tokens; for an encoder-decoder source and target.
        logits_at: (R,) rows that need logits; by default all.
    """
    network: Any = model.network
    output: Output = network(*batches, logits_at=logits_at)
    return output


def compute_logits(model: Model, *batches: Batch, logits_at: Integers | None = None) -> torch.Tensor:
    """Compute logits with gradients, of shape (T, size), (R, size) or (B, size).

    A row is for each of T tokens, for each of R rows `logits_at`, or, of a sequence head, for each of B sequences.
    """
    logits = run_network(model, *batches, logits_at=logits_at).logits
    assert isinstance(logits, torch.Tensor)
    return logits


def to_tensor(model: Model, values: Any) -> torch.Tensor:
    """Move numbers of any shape to the device of the model."""
    moved: torch.Tensor = model.engine.asarray(values)
    return moved
