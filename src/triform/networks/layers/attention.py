"""softmax(scale · QKᵀ + bias)·V between linear projections. Vaswani et al. 2017, section 3.2.2."""

from triform import spec
from triform.engines import Array, KeyValues
from triform.networks.context import ForwardContext, Memory
from triform.networks.layers.norm import build_norm
from triform.networks.layers.position import build_position
from triform.networks.layers.projections import Projections
from triform.networks.scope import Scope


class SelfAttention:
    """Self-attention: tokens of a sequence attend to the whole sequence, cached tokens included."""

    def __init__(self, scope: Scope, attention: spec.SelfAttention, hidden_size: int, *, layer: int) -> None:
        self._engine = scope.engine
        self._name = scope.name
        self._spec = attention
        self._layer = layer
        self._projections = Projections(scope, attention.heads, hidden_size)
        self._position = build_position(scope, attention.position, self._projections)
        self._query_norm = build_norm(scope / "query_norm", attention.head_norm, attention.heads.head_dim)
        self._key_norm = build_norm(scope / "key_norm", attention.head_norm, attention.heads.head_dim)

    def __call__(self, x: Array, context: ForwardContext, *, dropout: float, residual: Array | None) -> Array:
        """Compute the attention's output, plus the residual if given: (T, D) → (T, D)."""
        name, project = self._name, self._projections
        query, key, value = project.query_key_value(x)
        query = context.apply_hook(f"{name}.query", self._position.rotate(self._query_norm(query), context))
        key = context.apply_hook(f"{name}.key", self._position.rotate(self._key_norm(key), context))
        value = context.apply_hook(f"{name}.value", value)
        attended = self._engine.attention(
            query,
            context.spans,
            context.append_key_values(self._layer, key, value),
            self._spec.rule,
            bias=self._position.bias(context),
            dropout=self._spec.dropout,
            hook=context.probability_hook(f"{name}.probabilities"),
        )
        return project.output(context.apply_hook(f"{name}.context", attended), dropout, residual)


class CrossAttention:
    """Cross-attention: a decoder's tokens attend to the encoder's states, with keys and values computed once."""

    def __init__(self, scope: Scope, attention: spec.CrossAttention, hidden_size: int, *, layer: int) -> None:
        self._engine = scope.engine
        self._name = scope.name
        self._spec = attention
        self._layer = layer
        self._projections = Projections(scope, attention.heads, hidden_size)

    def __call__(self, x: Array, context: ForwardContext, *, dropout: float, residual: Array | None) -> Array:
        """Compute the attention's output, plus the residual if given: (T, D) → (T, D)."""
        assert context.memory is not None, "a decoder with cross-attention is always given a memory"
        name, project = self._name, self._projections
        query = context.apply_hook(f"{name}.query", project.query(x))
        attended = self._engine.attention(
            query,
            context.spans,
            self._key_values(context.memory, context),
            self._spec.rule,
            dropout=self._spec.dropout,
            hook=context.probability_hook(f"{name}.probabilities"),
        )
        return project.output(context.apply_hook(f"{name}.context", attended), dropout, residual)

    def _key_values(self, memory: Memory, context: ForwardContext) -> KeyValues:
        name, projections = self._name, self._projections

        def project(states_SD: Array) -> tuple[Array, Array]:
            key = context.apply_hook(f"{name}.key", projections.key(states_SD))
            return key, context.apply_hook(f"{name}.value", projections.value(states_SD))

        is_hooked = bool(context.wants_hook(f"{name}.key") or context.wants_hook(f"{name}.value"))
        return self._engine.shared(lambda: memory.compute_key_values(self._layer, project, is_hooked=is_hooked))
