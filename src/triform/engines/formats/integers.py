"""Integer formats: how weights and rows of activations are quantized. Every engine follows these formulas bit for bit.

A format without groups has a scale for each output channel, and integers of ±127 (int8). A format with groups has a
bfloat16 scale for each group of inputs, and a nibble q + 8 for each weight (int4). All arithmetic is float32.

    O  output channels          I  inputs
    G  groups of inputs         J  inputs of a group, the last one padded with zeros
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats.floats import Floats, round_to_bfloat16, widen
from triform.engines.formats.format import Format
from triform.engines.formats.stored_tensor import StoredTensor
from triform.errors import WeightError


def quantize(weight_OI: Floats, format: Format) -> StoredTensor:
    """Round the weight of a linear to an integer format.

    Raises:
        WeightError: the weight holds NaN or infinity.
    """
    if format.group_size is None:
        array, scales = quantize_rows(weight_OI)
        _refuse_non_finite(scales)
        return StoredTensor(array, format, scales)
    return _quantize_groups(weight_OI, format, format.group_size)


def dequantize(weight: StoredTensor) -> Floats:
    """Multiply the integers of a quantized weight by their scales: float32 (O, I)."""
    if weight.format.group_size is None:
        return weight.array.astype(np.float32) * scales_of(weight)[:, None]
    weight_OGJ = unpack_nibbles(weight).astype(np.float32) * scales_of(weight)[..., None]
    return weight_OGJ.reshape(len(weight_OGJ), -1)[:, : weight.shape[1]]


def quantize_rows(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Quantize each row by the greatest magnitude: q = rint(x · (127 / max|x|)), scale = max|x| / 127.

    The shapes are (rows, I) → (rows, I) and (rows,). A row and its scale are zero where 127 / max|x| would be infinite.
    A row with NaN or infinity has the scale NaN.
    """
    greatest = np.abs(x).max(axis=-1, initial=0)
    is_finite = np.isfinite(greatest)
    inverse, is_used = _inverse(np.float32(127), np.where(is_finite, greatest, 0))
    scale = np.where(is_used, greatest / np.float32(127), np.where(is_finite, 0, np.nan)).astype(np.float32)
    return np.rint(np.where(is_used[:, None], x, 0) * inverse[:, None]).astype(np.int8), scale


def in_groups(x: NDArray[Any], group_size: int) -> NDArray[Any]:
    """Divide rows into groups, the last padded with zeros: shape (rows, I) → (rows, G, J)."""
    num_rows, num_inputs = x.shape
    num_groups = -(-num_inputs // group_size)
    padded = np.pad(x, ((0, 0), (0, num_groups * group_size - num_inputs)))
    return padded.reshape(num_rows, num_groups, group_size)


def unpack_nibbles(weight: StoredTensor) -> NDArray[np.int8]:
    """Unpack the nibbles of a weight with groups to integers −8 … 7, (O, G, J)."""
    assert weight.format.group_size is not None
    pairs = weight.array.reshape(len(weight.array), -1, weight.format.group_size // 2)
    return np.concatenate([pairs & 15, pairs >> 4], axis=-1).astype(np.int8) - np.int8(8)


def scales_of(weight: StoredTensor) -> Floats:
    """Widen the scales of an integer weight to float32: (O,), or with groups (O, G)."""
    assert weight.scales is not None
    assert weight.format.scales is not None
    return widen(weight.scales, weight.format.scales)


def _quantize_groups(weight_OI: Floats, format: Format, group_size: int) -> StoredTensor:
    """The number of greatest magnitude of a group becomes −8, whatever its sign, so that all 16 integers are used."""
    weight_OGJ = in_groups(weight_OI, group_size)
    place = np.abs(weight_OGJ).argmax(axis=-1, keepdims=True)
    greatest_OG = np.take_along_axis(weight_OGJ, place, axis=-1)[..., 0]
    _refuse_non_finite(greatest_OG)
    scales = round_to_bfloat16(greatest_OG / np.float32(-8))
    inverse_OG, is_used = _inverse(np.float32(1), widen(scales, Format.BFLOAT16))
    nibbles = np.clip(np.rint(weight_OGJ * inverse_OG[..., None]) + 8, 0, 15).astype(np.uint8)
    array = nibbles[..., : group_size // 2] | nibbles[..., group_size // 2 :] << 4
    scales = np.where(is_used, scales, 0).astype(np.uint16)
    return StoredTensor(array.reshape(len(array), -1), format, scales, weight_OI.shape[1])


def _inverse(numerator: np.float32, x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Compute numerator / x, and whether the quotient is finite. A quotient that is not finite becomes 0."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = numerator / x
    is_used = np.isfinite(inverse)
    return np.where(is_used, inverse, np.float32(0)), is_used


def _refuse_non_finite(numbers: Floats) -> None:
    if not np.isfinite(numbers).all():
        raise WeightError("it holds NaN or infinity, which integers cannot. Fetch it again, or keep it in floats.")
