"""Causal LM: a language model that predicts the next token. Radford et al. 2018, section 3.1."""

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
from triform.training.objective import PERPLEXITY, Loss, Objective, ObjectiveSettings
from triform.training.objectives.texts import compute_logits, make_reader, naming_row, pack, read_text, to_tensor


@dataclass(frozen=True, eq=False, slots=True)
class Document:
    """Document, or part of a long document."""

    ids: Integers
    """(n + 1,); the first n tokens are inputs, the last n are targets."""


class CausalLM(Objective[Document]):
    """Causal language modelling of texts. Documents of a batch lie end to end and do not see each other.

    Each document ends with the tokenizer's end token. A document longer than the context is read in parts; the last
    target of a part is the first input of the next one. `max_length` counts inputs.
    """

    name = "causal-lm"
    rows = "text"
    head = spec.LanguageHead
    loss_scores = PERPLEXITY

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: ObjectiveSettings) -> None:
        self._reader = make_reader(model, tokenizer, max_length=settings.max_length)
        end = tokenizer.special("eos_token")
        self._end = None if end is None else tokenizer.id_of(end)

    def examples(self, row: Row) -> list[Document]:
        with naming_row(row):
            ids = self._reader.tokenizer.encode([read_text(row, "text")])[0].ids
        if self._end is not None and ids[-1] != self._end:
            ids = np.append(ids, self._end)
        if len(ids) < 2:
            raise InputError(f"{row.where}: text has a single token and nothing to predict. Leave the row out.")
        length = self._reader.max_length or len(ids)
        return [Document(ids[begin : begin + length + 1]) for begin in range(0, len(ids) - 1, length)]

    def num_tokens(self, example: Document) -> int:
        return len(example.ids) - 1

    def loss(self, model: Model, examples: Sequence[Document], rng: np.random.Generator) -> Loss:
        batch = pack([each.ids[:-1] for each in examples])
        targets = np.concatenate([each.ids[1:] for each in examples])
        logits = compute_logits(model, batch)
        return Loss(functional.cross_entropy(logits, to_tensor(model, targets), reduction="sum"), len(targets))
