"""Operations from hidden states to answers: rows, pooling, top-k, probabilities."""

from abc import ABC, abstractmethod
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from triform.engines.protocol.arrays import ArrayT, Integers
from triform.engines.protocol.key_values import Spans
from triform.spec import Pooling


class AnswerOperations(ABC, Generic[ArrayT]):
    """An engine picks rows, pools sequences and ranks logits."""

    @abstractmethod
    def rows(self, x: ArrayT, indices: Integers) -> ArrayT:
        """Pick rows of a packed array: shape (T, …) → (len(indices), …)."""

    @abstractmethod
    def pool(self, x_TD: ArrayT, spans: Spans, pooling: Pooling) -> ArrayT:
        """Pool the rows of each sequence to a vector: (T, D) → (B, D)."""

    @abstractmethod
    def normalize(self, x: ArrayT) -> ArrayT:
        """Divide each row by its Euclidean length: (B, D) → (B, D)."""

    @abstractmethod
    def top_k(self, x: ArrayT, k: int) -> tuple[NDArray[np.float32], Integers]:
        """Find the k greatest numbers of each row and their indices: (B, V) → (B, k) each.

        The greatest comes first, and among equal numbers the one of lower index.
        """

    @abstractmethod
    def top_log_probabilities(self, x: ArrayT, k: int) -> tuple[NDArray[np.float32], Integers]:
        """Find the k greatest of `log_softmax(x)` and their indices, in the order of `top_k`: (B, V) → (B, k) each.

        A row with NaN or infinity has NaN for every log-probability.
        """

    @abstractmethod
    def log_softmax(self, x: ArrayT) -> ArrayT:
        """Compute x − log Σ exp(x) over the last axis: (B, V) → (B, V); −∞ stays −∞."""

    @abstractmethod
    def all_finite(self, x: ArrayT) -> bool:
        """Check that an array of any shape holds neither NaN nor infinity."""
