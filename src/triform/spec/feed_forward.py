"""Feed-forward networks, position by position. Vaswani et al. 2017, section 3.3; Shazeer 2020 for the gated form."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Activation", "AnyFeedForward", "FeedForward", "GatedFeedForward"]


class Activation(StrEnum):
    """Nonlinearities, by the names of the field."""

    GELU = "gelu"
    """x·Φ(x), exact, by the error function. Hendrycks and Gimpel 2016."""
    GELU_TANH = "gelu_tanh"
    """The tanh approximation of GELU, from the same paper."""
    RELU = "relu"
    SILU = "silu"
    """x·sigmoid(x), also called swish."""
    TANH = "tanh"


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForward:
    """down(activation(up(x)))."""

    intermediate_size: int
    activation: Activation
    bias: bool
    dropout: float = 0.0
    """Dropout rate of the inner states, before `down`, while training."""

    @property
    def inner_width(self) -> int:
        """Numbers computed for each token by the linears before `down`."""
        return self.intermediate_size


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedFeedForward:
    """down(activation(gate(x)) · up(x)): SwiGLU with SiLU, GEGLU with GELU."""

    intermediate_size: int
    activation: Activation
    bias: bool
    dropout: float = 0.0
    """Dropout rate of the inner states, before `down`, while training."""

    @property
    def inner_width(self) -> int:
        """Numbers computed for each token by the linears before `down`."""
        return 2 * self.intermediate_size


AnyFeedForward = FeedForward | GatedFeedForward
"""The feed-forward networks that a block may have."""
