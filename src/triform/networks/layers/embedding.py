"""A batch → the first hidden states: one layer for each kind of input."""

from typing import Protocol

import numpy as np

from triform import spec
from triform.engines import Array, Integers, Parameter
from triform.errors import InputError
from triform.inputs import Batch
from triform.networks.context import ForwardContext
from triform.networks.layers.norm import build_norm
from triform.networks.layers.position import Learned, Sinusoidal, build_absolute_position
from triform.networks.scope import Scope


class Embedding(Protocol):
    """The layer of a member of `spec.Embedding`."""

    def check(self, batch: Batch) -> None:
        """Refuse a batch without the input of this layer, or with input that the layer would ignore.

        Raises:
            InputError: a value is missing, is out of range, or belongs to another kind of input.
        """

    def __call__(self, batch: Batch, context: ForwardContext) -> Array:
        """Embed a batch of T rows → (T, D)."""


class TokenEmbedding:
    """norm(word·scale + segment + position); a model may lack every part but the words. Devlin et al. 2018, figure 2.

    `word` is the place of another stack's word table, where both stacks share one.
    """

    def __init__(self, scope: Scope, embedding: spec.TokenEmbedding, *, word: Scope | None = None) -> None:
        size = embedding.hidden_size
        self._spec = embedding
        self._engine = scope.engine
        self._name = scope.name
        self._word = (word or scope / "word").table("weight", embedding.vocab_size, size)
        self._segment = None
        if embedding.num_segments is not None:
            self._segment = (scope / "segment").table("weight", embedding.num_segments, size)
        self._position = build_absolute_position(scope / "position", embedding.position, size)
        self._norm = build_norm(scope / "norm", embedding.norm, size)
        self._parts = [f"{scope.name}.{part}" for part in ("word", "segment", "position")]

    def check(self, batch: Batch) -> None:
        if len(batch.ids) != batch.num_rows or len(batch.features):
            raise InputError(
                f"This model reads an id in each row: expected {batch.num_rows} ids and no features, got "
                f"{len(batch.ids)} ids and {len(batch.features)} features. Make the batch with Batch.from_ids."
            )
        check_range("id", batch, batch.ids, self._spec.vocab_size, "the vocabulary")
        if self._spec.num_segments is not None and len(batch.token_type_ids):
            check_range("token type id", batch, batch.token_type_ids, self._spec.num_segments, "the segment table")

    def __call__(self, batch: Batch, context: ForwardContext) -> Array:
        is_sum_of_tables = self._spec.scale == 1 and not isinstance(self._position, Sinusoidal)
        if is_sum_of_tables and not any(map(context.wants_hook, self._parts)):
            x = self._engine.embedding_sum(self._lookups(batch, context))
        else:
            x = self._sum(batch, context)
        return context.apply_hook(self._name, self._engine.dropout(self._norm(x), self._spec.dropout))

    def _lookups(self, batch: Batch, context: ForwardContext) -> list[tuple[Array, Parameter]]:
        """Pair the (T,) rows of each table with the table."""
        lookups = [(self._engine.asarray(batch.ids), self._word)]
        if self._segment is not None:
            lookups.append((self._engine.asarray(_segments(batch)), self._segment))
        if isinstance(self._position, Learned):
            lookups.append(self._position.lookup(batch.ids, context))
        return lookups

    def _sum(self, batch: Batch, context: ForwardContext) -> Array:
        """Add part by part, (T, D), and show each part to the hook."""
        engine = self._engine
        x = engine.embedding(engine.asarray(batch.ids), self._word)
        if self._spec.scale != 1:
            x = engine.multiply(x, self._spec.scale)
        x = context.apply_hook(f"{self._name}.word", x)
        if self._segment is not None:
            segment = engine.embedding(engine.asarray(_segments(batch)), self._segment)
            x = engine.add(x, context.apply_hook(f"{self._name}.segment", segment))
        if self._position is not None:
            x = engine.add(x, context.apply_hook(f"{self._name}.position", self._position(batch.ids, context)))
        return x


def build_embedding(scope: Scope, embedding: spec.Embedding, *, word: Scope | None = None) -> Embedding:
    """Build the layer of a spec; `word` is the place of a word table shared with the other stack."""
    match embedding:
        case spec.TokenEmbedding():
            return TokenEmbedding(scope, embedding, word=word)


def check_range(name: str, batch: Batch, values: Integers, size: int, table: str) -> None:
    """Refuse (T,) values of a batch's rows outside a table.

    Raises:
        InputError: naming the first row whose value is not in 0 … size − 1.
    """
    unsigned = np.asarray(values, np.int64).view(np.uint64)  # a negative value becomes a large one
    if unsigned.max() >= size:
        row = int(((values < 0) | (values >= size)).argmax())
        sequence = int(batch.spans.ends.searchsorted(row, side="right"))
        place = row - int(batch.spans.begins[sequence])
        raise InputError(
            f"Sequence {sequence}, token {place}: {name} {values[row]} is outside {table} of {size} entries "
            f"(0 to {size - 1}). Was it made with this model's tokenizer?"
        )


def _segments(batch: Batch) -> Integers:
    """The row of the segment table for each row of a batch, (T,)."""
    return batch.token_type_ids if len(batch.token_type_ids) else np.zeros_like(batch.ids)
