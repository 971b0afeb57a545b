"""Texts that belong together lie near each other, and far from the other texts of their batch.

Henderson et al. 2017, section 4.4 (multiple negatives ranking); Reimers and Gurevych 2019 for the pooled vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from triform.data import Row
from triform.engines import Integers, Spans
from triform.errors import InputError, UnsupportedModelError, WrongTaskError
from triform.inputs import EncodedText, LongInput, Tokenizer
from triform.model import Model
from triform.networks import EncoderDecoder
from triform.tasks.sequence_level.sentence_transformers import Dense, Recipe
from triform.training.objective import Loss
from triform.training.objectives.texts import forward, pack, reader_of, tensor, text_in


@dataclass(frozen=True, eq=False, slots=True)
class Neighbours:
    """A text, one that belongs to it, and perhaps one that seems to and does not."""

    texts: tuple[EncodedText, ...]
    """(2,) or (3,)"""


class SentenceEmbedding:
    """Rows with an `anchor`, a `positive` and perhaps a `negative`.

    For each anchor, its positive is to be found among all positives and negatives that go through the model at once, so
    that more of these make it harder.

    Arguments:
        model: an encoder or a decoder; its pooling is that of sentence-transformers' files, or the mean.
        tokenizer, max_length, long_input: see `reader_of`.
        scale: multiplies the cosines before the softmax.

    Raises:
        WrongTaskError: the model has a head, or two stacks.
        UnsupportedModelError: it has dense modules behind its pooling, which are not trained.
    """

    head = None

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        max_length: int | None = None,
        long_input: str = LongInput.ERROR,
        scale: float = 20.0,
    ) -> None:
        if model.spec.head is not None or isinstance(model.network, EncoderDecoder):
            raise WrongTaskError(
                f"{model.checkpoint.source}: sentences are embedded by a model of one stack without a head. "
                'Take it off: start(…, head="none").'
            )
        recipe = Recipe.read(model.checkpoint)
        if any(isinstance(module, Dense) for module in recipe.modules):
            raise UnsupportedModelError(
                f"{model.checkpoint.source} has dense modules behind its pooling, which Triform does not train."
            )
        if not scale > 0:
            raise InputError(f"scale={scale}: expected a number above 0.")
        self._reader = reader_of(model, tokenizer, max_length=max_length or recipe.max_length, long_input=long_input)
        self._poolings = recipe.poolings
        self._lowercase = recipe.lowercase
        self._scale = scale

    def examples(self, row: Row) -> list[Neighbours]:
        names = ["anchor", "positive"] + ["negative"] * (row.values.get("negative") is not None)
        texts = [text_in(row, name) for name in names]
        return [Neighbours(tuple(self._reader.read(row, t.lower() if self._lowercase else t) for t in texts))]

    def tokens(self, example: Neighbours) -> int:
        return sum(len(text.ids) for text in example.texts)

    def loss(self, model: Model, examples: Sequence[Neighbours], rng: np.random.Generator) -> Loss:
        columns = [[each.texts[place] for each in examples if len(each.texts) > place] for place in range(3)]
        vectors = functional.normalize(self._vectors(model, [text for column in columns for text in column]), dim=-1)
        anchors, candidates = vectors[: len(examples)], vectors[len(examples) :]
        scores = self._scale * anchors @ candidates.T
        targets = tensor(model, np.arange(len(examples)))
        return Loss(functional.cross_entropy(scores, targets, reduction="sum"), len(examples))

    def _vectors(self, model: Model, texts: Sequence[EncodedText]) -> torch.Tensor:
        """(B, size), those of like length side by side in the batch."""
        order: Integers = np.argsort([len(text.ids) for text in texts], kind="stable")
        batch = pack([texts[i].ids for i in order], [texts[i].segment_ids for i in order])
        states = forward(model, batch).last_hidden_state
        back = np.argsort(order)
        spans = Spans(batch.spans.begins[back], batch.spans.ends[back])
        pooled = [model.engine.pool(states, spans, pooling) for pooling in self._poolings]
        return torch.cat(pooled, dim=-1)
