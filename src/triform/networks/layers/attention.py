"""σ(QKᵀ·scale + bias)·V between linear projections. Vaswani et al. 2017, section 3.2.2."""

from triform import spec
from triform.engines import Array, KeyValues
from triform.networks.context import ForwardContext, Memory
from triform.networks.layers.linear import Linear
from triform.networks.layers.norm import build_norm
from triform.networks.layers.position import build_position
from triform.networks.scope import Scope


class Projections:
    """The four linears of an attention: hidden states to queries, keys and values, and heads back to hidden states."""

    def __init__(self, scope: Scope, heads: spec.Heads, hidden_size: int) -> None:
        self._engine = scope.engine
        self._heads = heads
        width = heads.num_attention_heads * heads.head_dim
        key_value_width = heads.num_key_value_heads * heads.head_dim
        self._query = Linear(scope / "query", hidden_size, width, bias="query" in heads.biases)
        self._key = Linear(scope / "key", hidden_size, key_value_width, bias="key" in heads.biases)
        self._value = Linear(scope / "value", hidden_size, key_value_width, bias="value" in heads.biases)
        self._output = Linear(scope / "output", width, hidden_size, bias="output" in heads.biases)

    def query_key_value(self, x: Array) -> tuple[Array, Array, Array]:
        """(T, D) → (T, N, H), (T, K, H) and (T, K, H)."""
        linears = (self._query.parameters, self._key.parameters, self._value.parameters)
        query, key, value = (y.reshape(len(x), -1, self._heads.head_dim) for y in self._engine.linears(x, linears))
        return query, key, value

    def query(self, x: Array) -> Array:
        """(T, D) → (T, N, H)."""
        return self._query(x).reshape(-1, self._heads.num_attention_heads, self._heads.head_dim)

    def key(self, x: Array) -> Array:
        """(S, D) → (S, K, H)."""
        return self._key(x).reshape(-1, self._heads.num_key_value_heads, self._heads.head_dim)

    def value(self, x: Array) -> Array:
        """(S, D) → (S, K, H)."""
        return self._value(x).reshape(-1, self._heads.num_key_value_heads, self._heads.head_dim)

    def output(self, x_TNH: Array, dropout: float, residual: Array | None) -> Array:
        """(T, N, H) → (T, D)."""
        return self._output(x_TNH.reshape(x_TNH.shape[0], -1), dropout=dropout, residual=residual)


class SelfAttention:
    """Tokens of a sequence attend to one another, cached ones included."""

    def __init__(self, scope: Scope, attention: spec.SelfAttention, hidden_size: int, *, layer: int) -> None:
        self._engine = scope.engine
        self._name = scope.name
        self._spec = attention
        self._layer = layer
        self._projections = Projections(scope, attention.heads, hidden_size)
        self._position = build_position(scope, attention.position, attention.heads.num_attention_heads)
        self._query_norm = build_norm(scope / "query_norm", attention.head_norm, attention.heads.head_dim)
        self._key_norm = build_norm(scope / "key_norm", attention.head_norm, attention.heads.head_dim)

    def __call__(self, x: Array, context: ForwardContext, *, dropout: float, residual: Array | None) -> Array:
        """(T, D) → (T, D)."""
        name, project = self._name, self._projections
        query, key, value = project.query_key_value(x)
        query = context.apply_hook(f"{name}.query", self._position.turn(self._query_norm(query), context))
        key = context.apply_hook(f"{name}.key", self._position.turn(self._key_norm(key), context))
        value = context.apply_hook(f"{name}.value", value)
        attended = self._engine.attention(
            query,
            context.spans,
            context.keys_and_values(self._layer, key, value),
            scale=self._spec.scale,
            mask=self._spec.mask,
            window=self._spec.window,
            bias=self._position.bias(context),
            dropout=self._spec.dropout,
            probabilities=context.probabilities(f"{name}.probabilities"),
        )
        return project.output(context.apply_hook(f"{name}.context", attended), dropout, residual)


class CrossAttention:
    """A decoder's tokens attend to the encoder's states, whose keys and values are made once."""

    def __init__(self, scope: Scope, attention: spec.CrossAttention, hidden_size: int, *, layer: int) -> None:
        self._engine = scope.engine
        self._name = scope.name
        self._spec = attention
        self._layer = layer
        self._projections = Projections(scope, attention.heads, hidden_size)

    def __call__(self, x: Array, context: ForwardContext, *, dropout: float, residual: Array | None) -> Array:
        """(T, D) → (T, D)."""
        assert context.memory is not None, "a decoder with cross-attention is always given a memory"
        name, project = self._name, self._projections
        query = context.apply_hook(f"{name}.query", project.query(x))
        attended = self._engine.attention(
            query,
            context.spans,
            self._key_values(context.memory, context),
            scale=self._spec.scale,
            dropout=self._spec.dropout,
            probabilities=context.probabilities(f"{name}.probabilities"),
        )
        return project.output(context.apply_hook(f"{name}.context", attended), dropout, residual)

    def _key_values(self, memory: Memory, context: ForwardContext) -> KeyValues:
        name, projections = self._name, self._projections

        def project(states_SD: Array) -> tuple[Array, Array]:
            key = context.apply_hook(f"{name}.key", projections.key(states_SD))
            return key, context.apply_hook(f"{name}.value", projections.value(states_SD))

        is_hooked = context.wants(f"{name}.key") or context.wants(f"{name}.value")
        return self._engine.shared(lambda: memory.key_values(self._layer, project, is_hooked=is_hooked))
