"""Memory of the arrays that kernels fill."""

import math

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.formats import Floats

SMALL_ARRAY = 1 << 14
"""Numbers of an array; below this size the system's allocator costs no page faults."""


def empty(*shape: int) -> Floats:
    """Allocate an uninitialised float32 array of this shape. Freed memory of large arrays is reused."""
    is_small = math.prod(shape) < SMALL_ARRAY
    return np.empty(shape, np.float32) if is_small else _kernels.empty(shape)
