"""Parameters in memory: kept in the format they are stored in, widened to float32 where they are used."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.engines.protocol import Format, StoredTensor

Floats = NDArray[Any]
"""A float32 array; the type stubs of NumPy lose the dtype in arithmetic."""


@dataclass(frozen=True, eq=False, slots=True)
class ReferenceParameter:
    """A tensor as stored; a float32 one is the mapped file itself."""

    array: NDArray[Any]
    format: Format

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.array.shape

    def float32(self) -> Floats:
        """All numbers as float32."""
        return widen(self.array, self.format)

    def rows(self, indices: NDArray[np.int64]) -> Floats:
        """Some rows as float32, so that a table in half precision is never widened whole."""
        return widen(self.array[indices], self.format)


def widen(array: NDArray[Any], format: Format) -> Floats:
    """Stored numbers as float32, exactly. A bfloat16 is the upper half of a float32."""
    if format is Format.BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def convert(tensor: StoredTensor, format: Format) -> StoredTensor:
    """A tensor in another format, rounded to nearest, ties to even."""
    if tensor.format is format:
        return tensor
    numbers = widen(tensor.array, tensor.format)
    if format is Format.BFLOAT16:
        return StoredTensor(round_to_bfloat16(numbers), format)
    with np.errstate(over="ignore"):
        return StoredTensor(numbers.astype(format.value, copy=False), format)


def round_to_bfloat16(x: Floats) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = x.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)
