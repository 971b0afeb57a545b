"""Norms, and the identity for a spec without a norm."""

from collections.abc import Callable

from triform import spec
from triform.engines import Array
from triform.networks.scope import Scope

Norm = Callable[[Array], Array]


class LayerNorm:
    """(x − mean) / √(variance + eps) · weight + bias."""

    def __init__(self, scope: Scope, eps: float, size: int) -> None:
        self._engine = scope.engine
        self._eps = eps
        self._weight = scope.vector("weight", size)
        self._bias = scope.vector("bias", size)

    def __call__(self, x: Array) -> Array:
        return self._engine.layer_norm(x, self._weight, self._bias, self._eps)


class RMSNorm:
    """x / √(mean(x²) + eps) · weight."""

    def __init__(self, scope: Scope, eps: float, size: int) -> None:
        self._engine = scope.engine
        self._eps = eps
        self._weight = scope.vector("weight", size)

    def __call__(self, x: Array) -> Array:
        return self._engine.rms_norm(x, self._weight, self._eps)


def identity(x: Array) -> Array:
    """Return x, of any shape."""
    return x


def build_norm(scope: Scope, norm: spec.Norm | None, size: int) -> Norm:
    """Build the norm of a spec over `size` channels."""
    match norm:
        case spec.LayerNorm(eps=eps):
            return LayerNorm(scope, eps, size)
        case spec.RMSNorm(eps=eps):
            return RMSNorm(scope, eps, size)
        case None:
            return identity
