"""Masked LM: a language model that predicts masked tokens. Devlin et al. 2018, section 3.1."""

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
from triform.training.objective import PERPLEXITY, Loss, Objective, ObjectiveSettings
from triform.training.objectives.texts import compute_logits, make_reader, pack, read_text, to_tensor
from triform.training.settings import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedLMSettings(ObjectiveSettings):
    """Settings of masked-lm.

    Raises:
        InputError: a mask_rate that is not a probability.
    """

    mask_rate: float = setting(0.15, "Probability that a word, or a token, is chosen.")
    whole_words: bool = setting(True, "Whether all tokens of a word are chosen together.")

    def __post_init__(self) -> None:
        if not 0 <= self.mask_rate <= 1:
            raise InputError(f"mask_rate={self.mask_rate}: expected a probability, from 0 to 1.")


@dataclass(frozen=True, eq=False, slots=True)
class MaskedText:
    """Text, or part of a long text, of n tokens; masks are drawn anew in every step."""

    ids: Integers
    """(n,)"""
    token_type_ids: Integers
    """(n,)"""
    units: Integers
    """(n,) number of the unit that is masked as a whole, a word or a token; −1 for special tokens."""


class MaskedLM(Objective[MaskedText]):
    """Masked language modelling of texts; a long text is read in parts.

    Of the chosen tokens 80 % become the mask token, 10 % a random token, and 10 % stay as they are.

    Raises:
        TokenizerError: the tokenizer has no mask token.
    """

    name = "masked-lm"
    rows = "text"
    head = spec.LanguageHead
    loss_scores = PERPLEXITY
    settings_type = MaskedLMSettings

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: MaskedLMSettings) -> None:
        self._reader = make_reader(model, tokenizer, max_length=settings.max_length)
        self._rate = settings.mask_rate
        self._whole_words = settings.whole_words
        self._vocab_size = model.spec.input_stack.embedding.vocab_size
        mask = tokenizer.special("mask_token")
        id = None if mask is None else tokenizer.id_of(mask)
        if id is None:
            raise TokenizerError("The tokenizer has no mask_token, which masked language modelling needs.")
        self._mask = id

    def examples(self, row: Row) -> list[MaskedText]:
        return [self._example(part) for part in self._reader.read_in_windows(row, read_text(row, "text"), overlap=0)]

    def num_tokens(self, example: MaskedText) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[MaskedText], rng: np.random.Generator) -> Loss:
        batch = pack([each.ids for each in examples], [each.token_type_ids for each in examples])
        chosen = np.concatenate([self._choose(each.units, rng) for each in examples])
        rows = np.flatnonzero(chosen)
        if not len(rows):
            return Loss(torch.zeros((), requires_grad=True), 0)
        targets = batch.ids[rows]
        batch.ids[rows] = self._mask_tokens(targets, rng)
        logits = compute_logits(model, batch, logits_at=rows)
        return Loss(functional.cross_entropy(logits, to_tensor(model, targets), reduction="sum"), len(rows))

    def _example(self, text: EncodedText) -> MaskedText:
        units = np.arange(len(text.ids))
        if self._whole_words and text.words is not None:
            # A word begins where the number of the word changes.
            marks = list(zip(text.sequence_ids, text.words, strict=True))
            units = np.cumsum([row == 0 or marks[row] != marks[row - 1] for row in range(len(marks))])
        units[[sequence is None for sequence in text.sequence_ids]] = -1
        return MaskedText(text.ids, text.token_type_ids, units)

    def _choose(self, units: Integers, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Choose the tokens to predict: units (n,) → booleans (n,)."""
        draws = rng.random(int(units.max(initial=0)) + 1)
        return (draws[units] < self._rate) & (units >= 0)

    def _mask_tokens(self, ids: Integers, rng: np.random.Generator) -> Integers:
        """Replace chosen tokens (m,) by the mask token, by a random token, or not at all."""
        draws = rng.random(len(ids))
        others = rng.integers(self._vocab_size, size=len(ids))
        return np.where(draws < 0.8, self._mask, np.where(draws < 0.9, others, ids))
