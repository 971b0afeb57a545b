"""Activation functions on float32, in place, in pieces that stay in a core's cache."""

from collections.abc import Callable

import numpy as np

from triform.engines.formats import Floats
from triform.spec import Activation

PIECE = 16_384
"""Numbers at a time: 64 KiB, so that the passes of one formula run in the second-level cache."""

ERF = (1.1283797, 0.10276548, -1.8438496e-4, -6.257182e-4, 8.971195e-5, -5.98556e-6, 1.5895071e-7)
"""erf(x) = tanh(x · Σ ERF[k]·x²ᵏ), a weighted least-squares fit of artanh(erf(x))/x on [0, 3.9].

NumPy has no erf, but a fast tanh. The largest error is 1.4e-7, float32's own rounding included.
"""


def erf(x: Floats) -> Floats:
    """Compute the error function of float32 numbers, of any shape."""
    # From 4.1 on the polynomial has carried tanh to 1 exactly, as erf is in float32; gelu(−100) must be 0.
    x = np.clip(x, -4.2, 4.2)
    square = x * x
    polynomial = np.full_like(x, ERF[-1])
    for coefficient in ERF[-2::-1]:
        polynomial *= square
        polynomial += np.float32(coefficient)
    polynomial *= x
    return np.tanh(polynomial, out=polynomial)


def gelu(x: Floats) -> Floats:
    """Compute x·Φ(x) = x/2 · (1 + erf(x/√2)), of any shape. Hendrycks and Gimpel 2016, section 2."""
    return np.float32(0.5) * x * (1 + erf(x * np.float32(0.5**0.5)))


def gelu_tanh(x: Floats) -> Floats:
    """Compute x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), of any shape. Hendrycks and Gimpel 2016, section 2."""
    with np.errstate(over="ignore"):  # the cube of a huge x is infinite, and its tanh 1, as it should be
        inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (1 + np.tanh(inner))


def relu(x: Floats) -> Floats:
    """Compute max(x, 0), of any shape."""
    return np.maximum(x, 0)


def silu(x: Floats) -> Floats:
    """Compute x / (1 + exp(−x)), of any shape."""
    with np.errstate(over="ignore"):  # exp(−x) of a very negative x is infinite, and x divided by it 0, as it should be
        return x / (1 + np.exp(-x))


FUNCTIONS: dict[Activation, Callable[[Floats], Floats]] = {
    Activation.GELU: gelu,
    Activation.GELU_TANH: gelu_tanh,
    Activation.RELU: relu,
    Activation.SILU: silu,
    Activation.TANH: np.tanh,
}


def activate(x: Floats, activation: Activation) -> None:
    """Replace the numbers of a C-contiguous array of any shape by their activation."""
    function = FUNCTIONS[activation]
    flat = x.reshape(-1)
    for begin in range(0, flat.size, PIECE):
        piece = flat[begin : begin + PIECE]
        piece[:] = function(piece)
