"""The operations that are one or two NumPy calls: the reference engine and the native engine share them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats import Floats
from triform.engines.protocol import Integers


class NumPyOperations:
    """Operations on NumPy arrays that no kernel would make faster. NumPy computes each row by itself in all of them."""

    def asarray(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the array itself, of any shape: the engine computes on NumPy arrays."""
        return values

    def to_numpy(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the array itself, of any shape."""
        return x

    def add(self, x: Floats, y: Floats) -> Floats:
        """Compute x + y: (T, D) → (T, D), or other shapes that NumPy broadcasts."""
        return x + y

    def multiply(self, x: Floats, y: Floats | float) -> Floats:
        """Compute x · y: (T, D) and a scalar or (T, D) → (T, D)."""
        return x * y

    def transpose(self, x: Floats) -> Floats:
        """Transpose a matrix, and copy the result to contiguous memory: (R, N) → (N, R)."""
        return np.ascontiguousarray(x.T)

    def rotary_table(self, positions: Integers, frequencies: Floats) -> Floats:
        """Compute cosines and sines of the angles: (T,) and (dim/2,) → (2, T, dim/2)."""
        angles = positions[:, None].astype(np.float32) * frequencies
        return np.stack([np.cos(angles), np.sin(angles)])
