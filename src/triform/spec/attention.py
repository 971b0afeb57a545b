"""Attention: softmax(scale · QKᵀ + bias)·V and the projections around. Vaswani et al. 2017, section 3.2."""

from dataclasses import dataclass

from triform.spec.norm import RMSNorm
from triform.spec.position import AttentionPosition

__all__ = ["Bidirectional", "Causal", "CrossAttention", "Heads", "Mask", "ScoreRule", "SelfAttention"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bidirectional:
    """A query sees keys on both sides."""

    window: int | None = None
    """Two-sided: a query at position i sees the keys j with |i − j| < window. None shows the whole sequence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Causal:
    """A query sees the key at the same position and earlier keys."""

    window: int | None = None
    """Sliding window: a query at position i sees the keys j with 0 ≤ i − j < window. None shows all earlier keys."""


Mask = Bidirectional | Causal
"""The keys visible to a query."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRule:
    """The rule from scores to probabilities: softmax(scale · QKᵀ + bias) over the keys shown by `mask`.

    The bias, which is an array, is an argument of its own. An engine reads the rule in one place; a softcap of
    the scores would be a field here.
    """

    scale: float
    """Multiplies QKᵀ: 1/√head_dim, or 1 in T5."""
    mask: Mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Heads:
    """The shape of the four projections of an attention."""

    num_attention_heads: int
    num_key_value_heads: int
    """Groups of `num_attention_heads / num_key_value_heads` queries share keys and values (GQA). Ainslie et al. 2023.

    1 group is MQA: Shazeer 2019.
    """
    head_dim: int
    biases: frozenset[str] = frozenset()
    """The projections that add a bias, among query, key, value and output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfAttention:
    """A sequence attends to itself."""

    heads: Heads
    rule: ScoreRule
    position: AttentionPosition | None = None
    head_norm: RMSNorm | None = None
    """QK-norm: over the channels of each head of queries and keys, before positions rotate them, as in Qwen 3."""
    dropout: float = 0.0
    """Dropout rate of the probabilities, while training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossAttention:
    """A decoder's sequence attends to the encoder's last hidden states."""

    heads: Heads
    rule: ScoreRule
    dropout: float = 0.0
    """Dropout rate of the probabilities, while training."""
