"""Memory of arrays that kernels fill."""

import math

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.reference.floats import Floats

SMALL_ARRAY = 1 << 14
"""Numbers below which memory of the system's allocator costs no page faults."""


def empty(*shape: int) -> Floats:
    """An array to be filled. The memory of a large one is used again when it has gone."""
    is_small = math.prod(shape) < SMALL_ARRAY
    return np.empty(shape, np.float32) if is_small else _kernels.empty(shape)
