"""Float formats: stored numbers ↔ float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats.format import Format

Floats = NDArray[Any]
"""A float32 array; the type stubs of NumPy lose the dtype in arithmetic."""


def widen(array: NDArray[Any], format: Format) -> Floats:
    """Convert stored numbers of a float format to float32, exactly; any shape."""
    if _is_known_to_numpy(format):
        return array.astype(np.float32, copy=False)
    # A bfloat16 is the upper half of a float32.
    return (array.astype(np.uint32) << 16).view(np.float32)


def narrow(x: Floats, format: Format) -> NDArray[Any]:
    """Round float32 numbers of any shape to a float format, to nearest, ties to even; beyond the range to infinity."""
    if not _is_known_to_numpy(format):
        return round_to_bfloat16(x)
    with np.errstate(over="ignore"):
        return x.astype(format.storage, copy=False)


def round_to_bfloat16(x: Floats) -> NDArray[np.uint16]:
    """Round float32 numbers of any shape to the bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = x.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def _is_known_to_numpy(format: Format) -> bool:
    # NumPy has no bfloat16.
    return format.storage.kind == "f"
