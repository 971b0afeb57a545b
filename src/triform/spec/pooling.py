"""From a vector per token to a vector per sequence."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LastExcept", "LastOf", "Pooling"]


class Pooling(StrEnum):
    """Pooling of the n rows of a sequence to a vector."""

    FIRST = "first"
    LAST = "last"
    MEAN = "mean"
    MAX = "max"
    MEAN_SQRT_LENGTH = "mean_sqrt_length"
    """The sum of the rows, divided by √n."""
    WEIGHTED_MEAN = "weighted_mean"
    """The mean of the rows, weighted by position + 1, as in SGPT (Muennighoff 2022, section 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LastOf:
    """Pooling by the row of the last token with this id, for example the end token."""

    token: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LastExcept:
    """Pooling by the row of the last token without this id; by the first row where all tokens have it."""

    token: int
