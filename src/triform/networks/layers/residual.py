"""The residual step of every arrangement of norms: x ← residual_norm(x + post_norm(core(pre_norm(x))))."""

from typing import Protocol

from triform import spec
from triform.engines import Array
from triform.networks.context import ForwardContext
from triform.networks.layers.attention import CrossAttention, SelfAttention
from triform.networks.layers.feed_forward import build_feed_forward
from triform.networks.layers.norm import build_norm
from triform.networks.scope import Scope


class Core(Protocol):
    """An attention or a feed-forward network, with the residual if given."""

    def __call__(self, x: Array, context: ForwardContext, *, dropout: float, residual: Array | None) -> Array:
        """Compute dropout(core(x)) + residual: (T, D) → (T, D)."""


class Residual:
    """A core and the norms around, at `blocks.3.attention`, `.cross_attention` or `.feed_forward`."""

    def __init__(self, scope: Scope, residual: spec.Residual, hidden_size: int, *, layer: int) -> None:
        scope = scope / core_name(residual.core)
        self._engine = scope.engine
        self._output = f"{scope.name}.output"
        self._core = build_core(scope, residual.core, hidden_size, layer)
        self._pre_norm = build_norm(scope / "pre_norm", residual.pre_norm, hidden_size)
        self._post_norm = build_norm(scope / "post_norm", residual.post_norm, hidden_size)
        self._residual_norm = build_norm(scope / "residual_norm", residual.residual_norm, hidden_size)
        self._has_post_norm = residual.post_norm is not None
        self._dropout = residual.dropout

    def __call__(self, x: Array, context: ForwardContext) -> Array:
        """Compute the residual step: (T, D) → (T, D)."""
        inner = self._pre_norm(x)
        if self._has_post_norm or context.wants_hook(self._output):
            core = context.apply_hook(self._output, self._core(inner, context, dropout=self._dropout, residual=None))
            x = self._engine.add(self._post_norm(core), x)
        else:
            # The core's last linear adds the residual; an engine may do both at once.
            x = self._core(inner, context, dropout=self._dropout, residual=x)
        return self._residual_norm(x)


def core_name(core: spec.Core) -> str:
    """Name the place of a core in a block, for canonical names."""
    match core:
        case spec.SelfAttention():
            return "attention"
        case spec.CrossAttention():
            return "cross_attention"
        case _:
            return "feed_forward"


def build_core(scope: Scope, core: spec.Core, hidden_size: int, layer: int) -> Core:
    """Build the core of a spec."""
    match core:
        case spec.SelfAttention():
            return SelfAttention(scope, core, hidden_size, layer=layer)
        case spec.CrossAttention():
            return CrossAttention(scope, core, hidden_size, layer=layer)
        case _:
            return build_feed_forward(scope, core, hidden_size)
