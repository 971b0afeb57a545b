"""Heads on top of the last hidden states."""

from dataclasses import dataclass
from enum import StrEnum

from triform.spec.feed_forward import Activation
from triform.spec.norm import Norm
from triform.spec.pooling import LastExcept, LastOf, Pooling

__all__ = ["Head", "LanguageHead", "Problem", "SequenceHead", "SpanHead", "TokenHead", "Transform"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Transform:
    """norm(activation(dense(x))), before BERT's vocabulary projection."""

    activation: Activation
    norm: Norm


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageHead:
    """Token-level: a score for every entry of the vocabulary."""

    tied: bool
    """Whether the projection is the word embedding itself. Press and Wolf 2017."""
    bias: bool = False
    transform: Transform | None = None
    scale: float = 1.0
    """Multiplies the hidden states first: d^-½ in T5 with a tied head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenHead:
    """Token-level: a score for every label, for every token."""

    labels: tuple[str, ...]
    bias: bool = True
    dropout: float = 0.0
    """Dropout rate of the hidden states, while training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanHead:
    """Token-level: two scores for every token, as the start and as the end of an answer."""

    bias: bool = True
    dropout: float = 0.0
    """Dropout rate of the hidden states, while training."""


class Problem(StrEnum):
    """The meaning of the scores of a sequence."""

    SINGLE_LABEL = "single_label_classification"
    MULTI_LABEL = "multi_label_classification"
    REGRESSION = "regression"


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceHead:
    """Sequence-level: a score for every label, for the whole sequence."""

    labels: tuple[str, ...]
    problem: Problem
    pooling: Pooling | LastOf | LastExcept
    pooler: Activation | None = None
    """Activation of a dense layer between pooling and projection; None for no such layer."""
    bias: bool = True
    pooled_dropout: float = 0.0
    """Dropout rate of the pooled vector, before the dense layer, while training."""
    dropout: float = 0.0
    """Dropout rate of the input of the projection, while training."""


Head = LanguageHead | TokenHead | SpanHead | SequenceHead
