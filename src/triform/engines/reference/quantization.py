"""Integer formats: what they are, and a linear in each. Every other engine follows these formulas to the last bit.

int8: a scale for each output channel. int4: one for each group of 32 inputs, a bfloat16, and a nibble q + 8 for each
weight. Rows of activations are quantized as they come, like the channels of int8. Products of integers are summed
exactly, whatever the order. All else is float32.

    O  output channels          I  inputs
    G  groups of inputs         J  inputs of a group, the last one filled up with noughts
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats import GROUP, Format, StoredTensor
from triform.engines.reference.floats import Floats, round_to_bfloat16, widen
from triform.errors import WeightError


def quantize(weight_OI: Floats, format: Format) -> StoredTensor:
    """The nearest weight of a linear in an integer format.

    Raises:
        WeightError: it holds NaN or infinity.
    """
    return _quantize_int8(weight_OI) if format is Format.INT8 else _quantize_int4(weight_OI)


def dequantize(weight: StoredTensor) -> Floats:
    """The numbers (out, in) that a quantized weight stands for."""
    if weight.format is Format.INT8:
        return weight.array.astype(np.float32) * _scales(weight)[:, None]
    weight_OGJ = _integers(weight).astype(np.float32) * _scales(weight)[..., None]
    return weight_OGJ.reshape(len(weight_OGJ), -1)[:, : weight.shape[1]]


def linear(x: Floats, weight: StoredTensor) -> Floats:
    """x·weightᵀ of rows quantized as they come: (T, in) → (T, out)."""
    q_TI, scale_T = quantize_rows(x)
    if weight.format is Format.INT8:
        # Exact, as long as a sum stays below 2⁵³.
        sums_TO = q_TI.astype(np.float64) @ weight.array.T.astype(np.float64)
        return sums_TO.astype(np.float32) * (scale_T[:, None] * _scales(weight))
    q_TGJ, q_OGJ, scale_OG = (a.astype(np.float32) for a in (_groups(q_TI), _integers(weight), _scales(weight)))
    total_TO = np.zeros((len(q_TGJ), len(q_OGJ)), np.float32)
    for group in range(scale_OG.shape[1]):
        # Both products are exact: sums of a group stay below 2¹⁵, and a scale has 8 bits.
        total_TO += (q_TGJ[:, group] @ q_OGJ[:, group].T) * scale_OG[:, group]
    return total_TO * scale_T[:, None]


def quantize_rows(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Integers up to ±127 and a scale for each row: q = rint(x · (127 / max|x|)), scale = max|x| / 127.

    A row whose greatest magnitude is too small to divide 127 by it, such as a row of noughts, is noughts. The scale of
    a row with NaN or infinity is NaN.
    """
    greatest = np.abs(x).max(axis=-1, initial=0)
    is_finite = np.isfinite(greatest)
    inverse, is_used = _inverse(np.float32(127), np.where(is_finite, greatest, 0))
    scale = np.where(is_used, greatest / np.float32(127), np.where(is_finite, 0, np.nan)).astype(np.float32)
    return np.rint(np.where(is_used[:, None], x, 0) * inverse[:, None]).astype(np.int8), scale


def _quantize_int8(weight_OI: Floats) -> StoredTensor:
    array, scales = quantize_rows(weight_OI)
    _refuse_non_finite(scales)
    return StoredTensor(array, Format.INT8, scales)


def _quantize_int4(weight_OI: Floats) -> StoredTensor:
    """The number of greatest magnitude of a group becomes −8, whatever its sign, so that all 16 integers are used."""
    weight_OGJ = _groups(weight_OI)
    place = np.abs(weight_OGJ).argmax(axis=-1, keepdims=True)
    greatest_OG = np.take_along_axis(weight_OGJ, place, axis=-1)[..., 0]
    _refuse_non_finite(greatest_OG)
    scales = round_to_bfloat16(greatest_OG / np.float32(-8))
    inverse_OG, is_used = _inverse(np.float32(1), widen(scales, Format.BFLOAT16))
    nibbles = np.clip(np.rint(weight_OGJ * inverse_OG[..., None]) + 8, 0, 15).astype(np.uint8)
    array = nibbles[..., : GROUP // 2] | nibbles[..., GROUP // 2 :] << 4
    scales = np.where(is_used, scales, 0).astype(np.uint16)
    return StoredTensor(array.reshape(len(array), -1), Format.INT4, scales, weight_OI.shape[1])


def _inverse(numerator: np.float32, x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """numerator / x and whether that is a number; 0 where it is none."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = numerator / x
    is_used = np.isfinite(inverse)
    return np.where(is_used, inverse, np.float32(0)), is_used


def _refuse_non_finite(numbers: Floats) -> None:
    if not np.isfinite(numbers).all():
        raise WeightError("it holds NaN or infinity, which integers cannot. Fetch it again, or keep it in floats.")


def _groups(x: NDArray[Any]) -> NDArray[Any]:
    """(rows, I) → (rows, G, J)."""
    rows, inputs = x.shape
    groups = -(-inputs // GROUP)
    return np.pad(x, ((0, 0), (0, groups * GROUP - inputs))).reshape(rows, groups, GROUP)


def _integers(weight: StoredTensor) -> NDArray[np.int8]:
    """The (O, G, J) integers of an int4 weight, −8 … 7."""
    pairs = weight.array.reshape(len(weight.array), -1, GROUP // 2)
    return np.concatenate([pairs & 15, pairs >> 4], axis=-1).astype(np.int8) - np.int8(8)


def _scales(weight: StoredTensor) -> Floats:
    assert weight.scales is not None
    return weight.scales if weight.format is Format.INT8 else widen(weight.scales, Format.BFLOAT16)
