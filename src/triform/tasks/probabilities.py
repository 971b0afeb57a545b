"""Logits → probabilities, in float64, which costs nothing here and adds no rounding."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def softmax(logits: NDArray[np.floating]) -> Numbers:
    """exp(x) / Σ exp(x) over the last axis: (…, labels) → (…, labels), the same shape."""
    shifted = np.asarray(logits, np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    probabilities: Numbers = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: NDArray[np.floating]) -> Numbers:
    """1 / (1 + exp(−x)) of each element, the same shape, without overflow, and with all digits for very negative x."""
    x = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(x))
    probabilities: Numbers = np.where(x < 0, small, 1.0) / (1 + small)
    return probabilities
