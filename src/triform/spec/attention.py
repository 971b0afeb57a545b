"""σ(QKᵀ·scale + bias)·V and what surrounds it. Vaswani et al. 2017, section 3.2."""

from dataclasses import dataclass
from enum import StrEnum

from triform.spec.norm import RMSNorm
from triform.spec.position import RelativeBias, Rotary


class Mask(StrEnum):
    """Which keys a query may see."""

    BIDIRECTIONAL = "bidirectional"
    """All keys of its own sequence."""
    CAUSAL = "causal"
    """Its own position and those before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """The shape of the four projections of an attention."""

    num_attention_heads: int
    num_key_value_heads: int
    """Groups of `num_attention_heads / num_key_value_heads` queries share keys and values. Ainslie et al. 2023."""
    head_dim: int
    biases: frozenset[str] = frozenset()
    """Those of query, key, value and output that add a bias."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfAttention:
    """A sequence attends to itself."""

    heads: Heads
    scale: float
    """Multiplies QKᵀ: 1/√head_dim, or 1 in T5."""
    mask: Mask
    window: int | None = None
    """A query sees keys nearer than this: itself and `window − 1` before it. None: however far."""
    position: Rotary | RelativeBias | None = None
    head_norm: RMSNorm | None = None
    """Over the channels of each head of queries and keys, before positions turn them, as in Qwen 3."""
    dropout: float = 0.0
    """Of the probabilities, while training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossAttention:
    """A decoder's sequence attends to the encoder's last hidden states."""

    heads: Heads
    scale: float
    dropout: float = 0.0
    """Of the probabilities, while training."""
