"""Sentence embedding: similar vectors for texts of a pair, dissimilar ones for all other texts of the batch.

Henderson et al. 2017, section 4.4 (in-batch negatives); Reimers and Gurevych 2019 for the pooled vectors.
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
from triform.training.objective import Loss, Objective, ObjectiveSettings
from triform.training.objectives.texts import make_reader, pack, read_text, run_network, to_tensor
from triform.training.settings import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceEmbeddingSettings(ObjectiveSettings):
    """Settings of sentence-embedding.

    Raises:
        InputError: a scale that is not positive.
    """

    long_input: LongInput = setting(LongInput.ERROR, "Refuse a longer text (error), or cut it (truncate).")
    scale: float = setting(20.0, "Factor of the cosines before the softmax.")

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(f"scale={self.scale}: expected a number above 0.")


@dataclass(frozen=True, eq=False, slots=True)
class Triplet:
    """Anchor, positive, and perhaps a hard negative."""

    texts: tuple[EncodedText, ...]
    """(2,) or (3,)"""


class SentenceEmbedding(Objective[Triplet]):
    """Sentence embedding: an `anchor`, a `positive` and perhaps a `negative`.

    For each anchor, the positive is to be found among all positives and negatives that go through the model at once, so
    more of them make a harder problem. Vectors are pooled as sentence-transformers' files say, or by the mean.

    Raises:
        WrongTaskError: the model has a head, or two stacks.
        UnsupportedModelError: the model has dense modules behind its pooling, which are not trained.
    """

    name = "sentence-embedding"
    rows = "anchor, positive, perhaps negative"
    head = None
    settings_type = SentenceEmbeddingSettings

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: SentenceEmbeddingSettings) -> None:
        if model.spec.head is not None or isinstance(model.network, EncoderDecoder):
            raise WrongTaskError(
                f"{model.checkpoint.source}: sentences are embedded by an encoder or a decoder without a head. "
                "Ask for the backbone alone: load_for_training(…, new_head=NewHead(None))."
            )
        recipe = Recipe.of_model(model)
        if any(isinstance(module, Dense) for module in recipe.modules):
            raise UnsupportedModelError(
                f"{model.checkpoint.source} has dense modules behind its pooling, which Triform does not train."
            )
        self._reader = make_reader(model, tokenizer, max_length=settings.max_length, long_input=settings.long_input)
        self._poolings = recipe.poolings
        self._scale = settings.scale

    def examples(self, row: Row) -> list[Triplet]:
        names = ["anchor", "positive"] + ["negative"] * (row.values.get("negative") is not None)
        texts = [read_text(row, name) for name in names]
        return [Triplet(tuple(self._reader.read(row, t) for t in texts))]

    def num_tokens(self, example: Triplet) -> int:
        return sum(len(text.ids) for text in example.texts)

    def loss(self, model: Model, examples: Sequence[Triplet], rng: np.random.Generator) -> Loss:
        columns = [[each.texts[place] for each in examples if len(each.texts) > place] for place in range(3)]
        vectors = functional.normalize(self._vectors(model, [text for column in columns for text in column]), dim=-1)
        anchors, candidates = vectors[: len(examples)], vectors[len(examples) :]
        scores = self._scale * anchors @ candidates.T
        targets = to_tensor(model, np.arange(len(examples)))
        return Loss(functional.cross_entropy(scores, targets, reduction="sum"), len(examples))

    def _vectors(self, model: Model, texts: Sequence[EncodedText]) -> torch.Tensor:
        """Embed texts, as (B, size); texts of similar length lie side by side in the packed batch."""
        order: Integers = np.argsort([len(text.ids) for text in texts], kind="stable")
        batch = pack([texts[i].ids for i in order], [texts[i].token_type_ids for i in order])
        states = run_network(model, batch).last_hidden_state
        back = np.argsort(order)
        spans = Spans(batch.spans.begins[back], batch.spans.ends[back])
        pooled = [model.engine.pool(states, spans, pooling) for pooling in self._poolings]
        return torch.cat(pooled, dim=-1)
