"""How the numbers of parameters are stored."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP = 32
"""Inputs that share a scale in `Format.INT4`."""


class Format(StrEnum):
    """How a parameter's numbers are stored.

    On a CPU, arithmetic is float32 for the floats. `reference/quantization.py` defines the integers, which are for the
    weights of linears.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def is_integer(self) -> bool:
        """Whether numbers are integers with scales."""
        return self in (Format.INT8, Format.INT4)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as it lies in a file, usually a view of mapped memory."""

    array: NDArray[Any]
    """float32, float16, or for bfloat16, which NumPy lacks, its bits as uint16.

    int8: (out, in) of −127 … 127; checkpoints of others may hold −128.
    int4: uint8 (out, ⌈in / 32⌉ · 16); byte j of a group of 32 inputs holds input j in its low nibble and input j + 16
    in its high one, each as q + 8, and where the last group is short, the rest is 8.
    """
    format: Format
    scales: NDArray[Any] | None = None
    """A weight is q · scale. int8: float32 (out,). int4: the bits of a bfloat16 as uint16, (out, ⌈in / 32⌉)."""
    in_features: int | None = None
    """Of an int4 weight, whose array tells it only where it is a multiple of 32."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what it stands for: (out, in) for the weight of a linear."""
        if self.format is Format.INT4:
            return (len(self.array), self.in_features or 2 * self.array.shape[1])
        return self.array.shape

    def rows(self, rows: NDArray[np.int64] | slice) -> "StoredTensor":
        """Some rows of a matrix."""
        return replace(self, array=self.array[rows], scales=None if self.scales is None else self.scales[rows])
