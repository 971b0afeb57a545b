"""A linear whose weight is in an integer format. Every engine follows these formulas bit for bit.

Rows of activations are quantized on the fly, as output channels of int8 are. Products of integers are summed exactly,
in any order; all other arithmetic is float32. Letters are those of `formats/integers.py`.
"""

import numpy as np

from triform.engines.formats import Floats, StoredTensor
from triform.engines.formats.integers import in_groups, quantize_rows, scales_of, unpack_nibbles


def linear(x: Floats, weight: StoredTensor) -> Floats:
    """Compute x·weightᵀ in integers: (T, in) and (out, in) → (T, out)."""
    q_TI, scale_T = quantize_rows(x)
    if weight.format.group_size is None:
        # Exact, as long as a sum stays below 2⁵³.
        sums_TO = q_TI.astype(np.float64) @ weight.array.T.astype(np.float64)
        return sums_TO.astype(np.float32) * (scale_T[:, None] * scales_of(weight))
    q_TGJ = in_groups(q_TI, weight.format.group_size).astype(np.float32)
    q_OGJ, scale_OG = unpack_nibbles(weight).astype(np.float32), scales_of(weight)
    total_TO = np.zeros((len(q_TGJ), len(q_OGJ)), np.float32)
    for group in range(scale_OG.shape[1]):
        # Both products are exact: sums of a group stay below 2¹⁵, and a scale has 8 bits.
        total_TO += (q_TGJ[:, group] @ q_OGJ[:, group].T) * scale_OG[:, group]
    return total_TO * scale_T[:, None]
