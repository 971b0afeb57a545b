"""The four linears of an attention."""

from triform import spec
from triform.engines import Array
from triform.networks.layers.linear import Linear
from triform.networks.scope import Scope


class Projections:
    """Linears from hidden states to queries, keys and values, and from the heads' context back to hidden states."""

    def __init__(self, scope: Scope, heads: spec.Heads, hidden_size: int) -> None:
        self._engine = scope.engine
        self.heads = heads
        self.hidden_size = hidden_size
        width = heads.num_attention_heads * heads.head_dim
        key_value_width = heads.num_key_value_heads * heads.head_dim
        self._query = Linear(scope / "query", hidden_size, width, bias="query" in heads.biases)
        self._key = Linear(scope / "key", hidden_size, key_value_width, bias="key" in heads.biases)
        self._value = Linear(scope / "value", hidden_size, key_value_width, bias="value" in heads.biases)
        self._output = Linear(scope / "output", width, hidden_size, bias="output" in heads.biases)

    def query_key_value(self, x: Array) -> tuple[Array, Array, Array]:
        """Project to queries, keys and values at once: (T, D) → (T, N, H), (T, K, H) and (T, K, H)."""
        linears = (self._query.parameters, self._key.parameters, self._value.parameters)
        query, key, value = (y.reshape(len(x), -1, self.heads.head_dim) for y in self._engine.linears(x, linears))
        return query, key, value

    def query(self, x: Array) -> Array:
        """Project to queries: (T, D) → (T, N, H)."""
        return self._query(x).reshape(-1, self.heads.num_attention_heads, self.heads.head_dim)

    def key(self, x: Array) -> Array:
        """Project to keys: (S, D) → (S, K, H)."""
        return self._key(x).reshape(-1, self.heads.num_key_value_heads, self.heads.head_dim)

    def value(self, x: Array) -> Array:
        """Project to values: (S, D) → (S, K, H)."""
        return self._value(x).reshape(-1, self.heads.num_key_value_heads, self.heads.head_dim)

    def output(self, x_TNH: Array, dropout: float, residual: Array | None) -> Array:
        """Project the heads' context to hidden states: (T, N, H) → (T, D)."""
        return self._output(x_TNH.reshape(x_TNH.shape[0], -1), dropout=dropout, residual=residual)
