"""Causal language modelling: each token from those before it. Radford et al. 2018, section 3.1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.nn import functional

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError
from triform.inputs import Tokenizer
from triform.model import Model
from triform.training.objective import Loss
from triform.training.objectives.texts import logits_of, of_row, pack, reader_of, tensor, text_in


@dataclass(frozen=True, eq=False, slots=True)
class Document:
    """A document, or a part of a long one."""

    ids: Integers
    """(n + 1,) of which the first n are read, and the last n are to be said."""


class CausalLM:
    """Rows with a `text`. Documents of one batch lie end to end and do not see each other.

    Each ends with the tokenizer's end token. A document longer than the context is read in parts, which have one token
    in common: the last to be said in one is the first to be read in the next.

    Arguments:
        model, tokenizer, max_length: see `reader_of`; max_length counts the tokens that are read.
    """

    head = spec.LanguageHead

    def __init__(self, model: Model, tokenizer: Tokenizer, *, max_length: int | None = None) -> None:
        self._reader = reader_of(model, tokenizer, max_length=max_length)
        end = tokenizer.special("eos_token")
        self._end = None if end is None else tokenizer.id_of(end)

    def examples(self, row: Row) -> list[Document]:
        with of_row(row):
            ids = self._reader.tokenizer.encode([text_in(row, "text")])[0].ids
        if self._end is not None and ids[-1] != self._end:
            ids = np.append(ids, self._end)
        if len(ids) < 2:
            raise InputError(f"{row.where}: text has one token, from which nothing follows. Leave it out.")
        length = self._reader.max_length or len(ids)
        return [Document(ids[begin : begin + length + 1]) for begin in range(0, len(ids) - 1, length)]

    def tokens(self, example: Document) -> int:
        return len(example.ids) - 1

    def loss(self, model: Model, examples: Sequence[Document], rng: np.random.Generator) -> Loss:
        batch = pack([each.ids[:-1] for each in examples])
        targets = np.concatenate([each.ids[1:] for each in examples])
        logits = logits_of(model, batch)
        return Loss(functional.cross_entropy(logits, tensor(model, targets), reduction="sum"), len(targets))
