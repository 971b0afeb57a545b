"""Masked language modelling: some tokens are hidden, and are to be said. Devlin et al. 2018, section 3.1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, TokenizerError
from triform.inputs import EncodedText, Tokenizer
from triform.model import Model
from triform.training.objective import Loss
from triform.training.objectives.texts import logits_of, pack, reader_of, tensor, text_in


@dataclass(frozen=True, eq=False, slots=True)
class Masked:
    """A text, or a part of a long one. n tokens; what is hidden of it is drawn anew each time."""

    ids: Integers
    """(n,)"""
    segment_ids: Integers
    """(n,)"""
    units: Integers
    """(n,) which are hidden together: tokens of one word have one number, special ones −1."""


class MaskedLM:
    """Rows with a `text`.

    Of the tokens chosen, 80 % become the mask, 10 % any token, and 10 % stay. Each word, or each token, is chosen by
    itself with the same probability.

    Arguments:
        model, tokenizer, max_length: see `reader_of`; a longer text is read in parts.
        mask_rate: the probability of being chosen.
        whole_words: whether words are chosen, and not tokens.

    Raises:
        InputError: a mask_rate that is no probability.
        TokenizerError: the tokenizer has no mask token.
    """

    head = spec.LanguageHead

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        max_length: int | None = None,
        mask_rate: float = 0.15,
        whole_words: bool = True,
    ) -> None:
        if not 0 <= mask_rate <= 1:
            raise InputError(f"mask_rate={mask_rate}: expected a probability, from 0 to 1.")
        self._reader = reader_of(model, tokenizer, max_length=max_length)
        self._rate = mask_rate
        self._whole_words = whole_words
        self._vocab_size = model.spec.input_stack.embedding.vocab_size
        mask = tokenizer.special("mask_token")
        id = None if mask is None else tokenizer.id_of(mask)
        if id is None:
            raise TokenizerError("The tokenizer has no mask_token, which masked language modelling needs.")
        self._mask = id

    def examples(self, row: Row) -> list[Masked]:
        return [self._example(part) for part in self._reader.read_in_windows(row, text_in(row, "text"), overlap=0)]

    def tokens(self, example: Masked) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[Masked], rng: np.random.Generator) -> Loss:
        batch = pack([each.ids for each in examples], [each.segment_ids for each in examples])
        chosen = np.concatenate([self._choose(each.units, rng) for each in examples])
        rows = np.flatnonzero(chosen)
        if not len(rows):
            return Loss(torch.zeros((), requires_grad=True), 0)
        targets = batch.ids[rows]
        batch.ids[rows] = self._hidden(targets, rng)
        logits = logits_of(model, batch, logits_at=rows)
        return Loss(functional.cross_entropy(logits, tensor(model, targets), reduction="sum"), len(rows))

    def _example(self, text: EncodedText) -> Masked:
        units = np.arange(len(text.ids))
        if self._whole_words and text.words is not None:
            # A word begins where the number of the word changes.
            marks = list(zip(text.sources, text.words, strict=True))
            units = np.cumsum([row == 0 or marks[row] != marks[row - 1] for row in range(len(marks))])
        units[[source is None for source in text.sources]] = -1
        return Masked(text.ids, text.segment_ids, units)

    def _choose(self, units: Integers, rng: np.random.Generator) -> NDArray[np.bool_]:
        """(n,) whether each token is chosen."""
        draws = rng.random(int(units.max(initial=0)) + 1)
        return (draws[units] < self._rate) & (units >= 0)

    def _hidden(self, ids: Integers, rng: np.random.Generator) -> Integers:
        """What the model sees in the place of the tokens chosen."""
        draws = rng.random(len(ids))
        others = rng.integers(self._vocab_size, size=len(ids))
        return np.where(draws < 0.8, self._mask, np.where(draws < 0.9, others, ids))
