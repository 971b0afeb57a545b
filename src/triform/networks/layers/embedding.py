"""From ids to the first hidden states."""

from triform import spec
from triform.engines import Array, Integers, Parameter
from triform.networks.context import ForwardContext
from triform.networks.layers.norm import build_norm
from triform.networks.layers.position import Learned, Sinusoidal, build_absolute_position
from triform.networks.scope import Scope


class Embedding:
    """norm(word + segment + position), of which a model may lack all but the words.

    `word` is the place of another stack's word table, where both share one.
    """

    def __init__(self, scope: Scope, embedding: spec.Embedding, *, word: Scope | None = None) -> None:
        size = embedding.hidden_size
        self._engine = scope.engine
        self._name = scope.name
        self._word = (word or scope / "word").table("weight", embedding.vocab_size, size)
        self._scale = embedding.scale
        self._segment = None
        if embedding.num_segments is not None:
            self._segment = (scope / "segment").table("weight", embedding.num_segments, size)
        self._position = build_absolute_position(scope / "position", embedding.position, size)
        self._norm = build_norm(scope / "norm", embedding.norm, size)
        self._dropout = embedding.dropout
        self._parts = [f"{scope.name}.{part}" for part in ("word", "segment", "position")]

    def __call__(self, ids: Integers, segment_ids: Integers, context: ForwardContext) -> Array:
        """(T,) ids and segment ids → (T, D)."""
        is_sum_of_tables = self._scale == 1 and not isinstance(self._position, Sinusoidal)
        if is_sum_of_tables and not any(map(context.wants_hook, self._parts)):
            x = self._engine.embedding_sum(self._lookups(ids, segment_ids, context))
        else:
            x = self._sum(ids, segment_ids, context)
        return context.apply_hook(self._name, self._engine.dropout(self._norm(x), self._dropout))

    def _lookups(self, ids: Integers, segment_ids: Integers, context: ForwardContext) -> list[tuple[Array, Parameter]]:
        lookups = [(self._engine.asarray(ids), self._word)]
        if self._segment is not None:
            lookups.append((self._engine.asarray(segment_ids), self._segment))
        if isinstance(self._position, Learned):
            lookups.append(self._position.lookup(context))
        return lookups

    def _sum(self, ids: Integers, segment_ids: Integers, context: ForwardContext) -> Array:
        """Part by part, each shown to whoever looks."""
        engine = self._engine
        x = engine.embedding(engine.asarray(ids), self._word)
        if self._scale != 1:
            x = engine.multiply(x, self._scale)
        x = context.apply_hook(f"{self._name}.word", x)
        if self._segment is not None:
            segment = engine.embedding(engine.asarray(segment_ids), self._segment)
            x = engine.add(x, context.apply_hook(f"{self._name}.segment", segment))
        if self._position is not None:
            x = engine.add(x, context.apply_hook(f"{self._name}.position", self._position(context)))
        return x
