"""Feed-forward networks, position by position."""

from triform import spec
from triform.engines import Array
from triform.networks.context import ForwardContext
from triform.networks.layers.linear import Linear
from triform.networks.scope import Scope


class FeedForward:
    """down(activation(up(x))). Vaswani et al. 2017, section 3.3."""

    def __init__(self, scope: Scope, feed_forward: spec.FeedForward, hidden_size: int) -> None:
        self._engine = scope.engine
        self._name = scope.name
        self._activation = feed_forward.activation
        self._dropout = feed_forward.dropout
        self._up = Linear(scope / "up", hidden_size, feed_forward.intermediate_size, bias=feed_forward.bias)
        self._down = Linear(scope / "down", feed_forward.intermediate_size, hidden_size, bias=feed_forward.bias)

    def __call__(self, x: Array, context: ForwardContext, *, dropout: float, residual: Array | None) -> Array:
        """Compute the network's output, plus the residual if given: (T, D) → (T, D)."""
        if context.wants_hook(f"{self._name}.inner"):
            inner = context.apply_hook(
                f"{self._name}.inner", self._up(x, activation=self._activation, dropout=self._dropout)
            )
            return self._down(inner, dropout=dropout, residual=residual)
        up, down = self._up.parameters, self._down.parameters
        return self._engine.feed_forward(
            x, up, down, self._activation, inner_dropout=self._dropout, dropout=dropout, residual=residual
        )


class GatedFeedForward:
    """down(activation(gate(x)) ⊙ up(x)). Shazeer 2020, equation 6."""

    def __init__(self, scope: Scope, feed_forward: spec.GatedFeedForward, hidden_size: int) -> None:
        self._engine = scope.engine
        self._name = scope.name
        self._activation = feed_forward.activation
        self._dropout = feed_forward.dropout
        self._gate = Linear(scope / "gate", hidden_size, feed_forward.intermediate_size, bias=feed_forward.bias)
        self._up = Linear(scope / "up", hidden_size, feed_forward.intermediate_size, bias=feed_forward.bias)
        self._down = Linear(scope / "down", feed_forward.intermediate_size, hidden_size, bias=feed_forward.bias)

    def __call__(self, x: Array, context: ForwardContext, *, dropout: float, residual: Array | None) -> Array:
        """Compute the network's output, plus the residual if given: (T, D) → (T, D)."""
        gate, up, down = self._gate.parameters, self._up.parameters, self._down.parameters
        if context.wants_hook(f"{self._name}.inner"):
            inner = self._engine.gated_linear(x, gate.weight, up.weight, gate.bias, up.bias, self._activation)
            inner = context.apply_hook(f"{self._name}.inner", self._engine.dropout(inner, self._dropout))
            return self._down(inner, dropout=dropout, residual=residual)
        return self._engine.feed_forward(
            x, up, down, self._activation, gate=gate, inner_dropout=self._dropout, dropout=dropout, residual=residual
        )


def build_feed_forward(
    scope: Scope, feed_forward: spec.AnyFeedForward, hidden_size: int
) -> FeedForward | GatedFeedForward:
    """Build the feed-forward network of a spec."""
    match feed_forward:
        case spec.FeedForward():
            return FeedForward(scope, feed_forward, hidden_size)
        case spec.GatedFeedForward():
            return GatedFeedForward(scope, feed_forward, hidden_size)
