"""Operations from hidden states to answers: rows, pooling, top-k, probabilities."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from triform.engines.protocol.arrays import Array, Integers
from triform.engines.protocol.key_values import Spans
from triform.spec import Pooling


class AnswerOperations(ABC):
    """Operations from hidden states to answers."""

    @abstractmethod
    def rows(self, x: Array, indices: Integers) -> Array:
        """Some rows of a packed array: (T, D) → (len(indices), D)."""

    @abstractmethod
    def pool(self, x_TD: Array, spans: Spans, pooling: Pooling) -> Array:
        """One vector for each sequence: (T, D) → (B, D)."""

    @abstractmethod
    def normalize(self, x: Array) -> Array:
        """Rows divided by their Euclidean length."""

    @abstractmethod
    def top_k(self, x: Array, k: int) -> tuple[NDArray[np.float32], Integers]:
        """The k greatest of each row and where they stand, greatest first, the lower index first among equals."""

    @abstractmethod
    def top_log_probabilities(self, x: Array, k: int) -> tuple[NDArray[np.float32], Integers]:
        """`log_softmax(x)` where the k greatest of each row stand, and their places, in the order of `top_k`.

        A row that holds NaN or infinity has NaN for all.
        """

    @abstractmethod
    def log_softmax(self, x: Array) -> Array:
        """x − log Σ exp(x), over the last axis; −∞ stays what it is."""

    @abstractmethod
    def all_finite(self, x: Array) -> bool:
        """Whether no element is NaN or infinite."""
