"""A dense layer. The weight is (out, in), as in torch."""

from triform.engines import Array, Dense
from triform.networks.scope import Scope
from triform.spec import Activation


class Linear:
    """dropout(activation(x·weightᵀ + bias)) + residual."""

    def __init__(self, scope: Scope, in_features: int, out_features: int, *, bias: bool) -> None:
        self._engine = scope.engine
        weight = scope.linear("weight", out_features, in_features)
        self.parameters = Dense(weight, scope.vector("bias", out_features) if bias else None)

    def __call__(
        self, x: Array, *, activation: Activation | None = None, dropout: float = 0.0, residual: Array | None = None
    ) -> Array:
        """Compute the layer: (T, in) → (T, out)."""
        return self._engine.linear(x, *self.parameters, activation=activation, dropout=dropout, residual=residual)
