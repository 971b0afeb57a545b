"""Float formats: stored numbers ↔ float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats import Format

Floats = NDArray[Any]
"""A float32 array; the type stubs of NumPy lose the dtype in arithmetic."""


def widen(array: NDArray[Any], format: Format) -> Floats:
    """Stored numbers of a float format as float32, exactly. A bfloat16 is the upper half of a float32."""
    if format is Format.BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def round_to_bfloat16(x: Floats) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = x.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)
