"""Operations between the rows of a sequence: attention, rotary positions, keys and values."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from triform.engines.protocol.arrays import Array, ArrayT
from triform.engines.protocol.hooks import ProbabilityHook
from triform.engines.protocol.key_values import KeyValues, KeyValueStore, LayerCache, PackedKeyValues, Spans
from triform.spec import Mask


@dataclass(frozen=True, eq=False, slots=True)
class DistanceBias:
    """A number per head for every distance, added to the scaled scores: column r is for key − query = r − `zero`."""

    values: Array
    """(N, R), so that consecutive keys lie side by side."""
    zero: int


class AttentionOperations(ABC, Generic[ArrayT]):
    """An engine computes attention, and owns the store of the KV cache."""

    is_batch_invariant: bool = False
    """Whether results of a sequence have the same bits alone, in any batch and through the KV cache."""
    page_size: int
    """Keys in a page of a key/value store: the width of a tile of the engine's attention."""

    @abstractmethod
    def transpose(self, x: ArrayT) -> ArrayT:
        """Transpose a matrix: (R, N) → (N, R)."""

    @abstractmethod
    def rotary_table(self, positions: ArrayT, frequencies: NDArray[np.float32]) -> ArrayT:
        """Compute cosines and sines of positions · frequencies in float32: (T,) and (dim/2,) → a table for `rotary`.

        Su et al. 2021, arXiv:2104.09864, section 3.4.
        """

    @abstractmethod
    def rotary(self, x_TNH: ArrayT, table: ArrayT) -> ArrayT:
        """Rotate each pair of channels (i, i + dim/2) of the first dim channels by its angle: (T, N, H) → (T, N, H)."""

    @abstractmethod
    def attention(
        self,
        query_TNH: ArrayT,
        queries: Spans,
        keys: KeyValues,
        *,
        scale: float,
        mask: Mask = Mask.BIDIRECTIONAL,
        window: int | None = None,
        bias: DistanceBias | None = None,
        dropout: float = 0.0,
        probabilities: ProbabilityHook | None = None,
    ) -> ArrayT:
        """dropout(softmax(scale · QKᵀ + bias))·V for every sequence by itself → (T, N, H).

        Query head n reads key/value head n // (N/K). Under a causal mask the last query of a sequence stands at its
        last key; with a window a query sees only keys nearer than that. Self, cross, cached and packed attention
        differ only in `queries` and `keys`. Probabilities are normalised before they meet V, so that a tap can change
        them without changing the arithmetic.
        """

    def key_values(self, key_SKH: ArrayT, value_SKH: ArrayT, spans: Spans) -> KeyValues:
        """Lay keys and values that many passes read, such as cross-attention's, out as attention reads them best.

        (S, K, H) each.
        """
        return PackedKeyValues(key_SKH, value_SKH, spans)

    @abstractmethod
    def key_value_store(self, layers: Sequence[LayerCache]) -> KeyValueStore:
        """Make an empty store for what each of these layers caches."""
