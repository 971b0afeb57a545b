"""From a vector per token to a vector per sequence."""

from dataclasses import dataclass
from enum import StrEnum


class Pooling(StrEnum):
    """What becomes of the rows of one sequence, of n tokens."""

    FIRST = "first"
    LAST = "last"
    MEAN = "mean"
    MAX = "max"
    MEAN_SQRT_LENGTH = "mean_sqrt_length"
    """Their sum divided by √n."""
    WEIGHTED_MEAN = "weighted_mean"
    """Their mean weighted by position + 1, as in SGPT (Muennighoff 2022, section 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LastOf:
    """The row at the last token of this id, such as the one that ends a text."""

    token: int
