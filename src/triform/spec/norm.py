"""Normalisation over the hidden dimension."""

from dataclasses import dataclass

__all__ = ["LayerNorm", "Norm", "RMSNorm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerNorm:
    """(x − mean) / √(variance + eps) · weight + bias. Ba et al. 2016, section 3."""

    eps: float
    """Added to the variance, in its unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RMSNorm:
    """x / √(mean(x²) + eps) · weight. Zhang and Sennrich 2019, equation 4."""

    eps: float
    """Added to the mean square, in its unit."""


Norm = LayerNorm | RMSNorm
