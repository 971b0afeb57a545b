"""Conversions of stored tensors between formats."""

import numpy as np

from triform.engines.formats.floats import Floats, narrow, widen
from triform.engines.formats.format import Format
from triform.engines.formats.integers import dequantize, quantize
from triform.engines.formats.stored_tensor import StoredTensor

BLOCK_NUMBERS = 1 << 20
"""Numbers to quantize at a time. A large weight as a whole would need too much memory in float32."""


def to_float32(tensor: StoredTensor) -> Floats:
    """Convert the numbers of a tensor to float32, exactly: the array has `tensor.shape`."""
    return dequantize(tensor) if tensor.format.is_integer else widen(tensor.array, tensor.format)


def convert(tensor: StoredTensor, format: Format) -> StoredTensor:
    """Convert a tensor to another format, rounded to nearest, ties to even.

    Raises:
        WeightError: NaN or infinity cannot become integers.
    """
    if tensor.format == format:
        return tensor
    if format.is_integer:
        return _quantize_by_blocks(tensor, format)
    return StoredTensor(narrow(to_float32(tensor), format), format)


def _quantize_by_blocks(tensor: StoredTensor, format: Format) -> StoredTensor:
    num_rows, size = tensor.shape
    step = max(1, BLOCK_NUMBERS // size)
    blocks = [
        quantize(to_float32(tensor.rows(slice(row, row + step))), format) for row in range(0, max(1, num_rows), step)
    ]
    array, scales = (np.concatenate(parts) for parts in zip(*((b.array, b.scales) for b in blocks), strict=True))
    return StoredTensor(array, format, scales, blocks[0].in_features)
