"""Parameters in memory: kept in the format they are stored in, widened to float32 where they are used."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats import Format, StoredTensor
from triform.engines.reference.floats import Floats, round_to_bfloat16, widen
from triform.engines.reference.quantization import dequantize, quantize

BLOCK_NUMBERS = 1 << 20
"""How many are quantized at a time, so that a large weight is never in float32 whole."""


@dataclass(frozen=True, eq=False, slots=True)
class ReferenceParameter:
    """A tensor as stored; a float32 one is the mapped file itself."""

    tensor: StoredTensor

    @property
    def format(self) -> Format:
        """How it is stored."""
        return self.tensor.format

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.tensor.shape

    def float32(self) -> Floats:
        """All numbers as float32."""
        return float32(self.tensor)

    def rows(self, indices: NDArray[np.int64]) -> Floats:
        """Some rows as float32, so that a table in another format is never widened whole."""
        return float32(self.tensor.rows(indices))


def float32(tensor: StoredTensor) -> Floats:
    """The numbers of a tensor as float32, exactly."""
    return dequantize(tensor) if tensor.format.is_integer else widen(tensor.array, tensor.format)


def convert(tensor: StoredTensor, format: Format) -> StoredTensor:
    """A tensor in another format, rounded to nearest, ties to even.

    Raises:
        WeightError: NaN or infinity are to become integers.
    """
    if tensor.format is format:
        return tensor
    if format.is_integer:
        return _quantize_by_blocks(tensor, format)
    numbers = float32(tensor)
    if format is Format.BFLOAT16:
        return StoredTensor(round_to_bfloat16(numbers), format)
    with np.errstate(over="ignore"):
        return StoredTensor(numbers.astype(format.value, copy=False), format)


def _quantize_by_blocks(tensor: StoredTensor, format: Format) -> StoredTensor:
    num_rows, size = tensor.shape
    step = max(1, BLOCK_NUMBERS // size)
    blocks = [
        quantize(float32(tensor.rows(slice(row, row + step))), format) for row in range(0, max(1, num_rows), step)
    ]
    array, scales = (np.concatenate(parts) for parts in zip(*((b.array, b.scales) for b in blocks), strict=True))
    return StoredTensor(array, format, scales, blocks[0].in_features)
