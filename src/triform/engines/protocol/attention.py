"""Operations between the rows of a sequence: attention, positions, keys and values."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from triform.engines.protocol.arrays import Array
from triform.engines.protocol.hooks import ProbabilityHook
from triform.engines.protocol.key_values import KeyValues, KeyValueStore, PackedKeyValues, Spans
from triform.spec import Mask


@dataclass(frozen=True, eq=False, slots=True)
class DistanceBias:
    """A number per head for every distance, added to the scaled scores: column r is for key − query = r − `zero`."""

    values: Array
    """(N, R), so that consecutive keys lie side by side."""
    zero: int


class AttentionOperations(ABC):
    """Operations between the rows of a sequence."""

    page_size: int
    """Keys in a page of a key/value store: as many as its attention takes at a time."""

    @abstractmethod
    def transpose(self, x: Array) -> Array:
        """(R, N) → (N, R)."""

    @abstractmethod
    def rotary_table(self, positions: Array, frequencies: NDArray[np.float32]) -> Array:
        """Cosines and sines of positions · frequencies, in float32: (T,) and (H/2,) → one table for `rotary`."""

    @abstractmethod
    def rotary(self, x_TNH: Array, table: Array) -> Array:
        """Turn each pair of channels (i, i + dim/2) of the first dim = 2 · frequencies by its angle."""

    @abstractmethod
    def attention(
        self,
        query_TNH: Array,
        queries: Spans,
        keys: KeyValues,
        *,
        scale: float,
        mask: Mask = Mask.BIDIRECTIONAL,
        window: int | None = None,
        bias: DistanceBias | None = None,
        dropout: float = 0.0,
        probabilities: ProbabilityHook | None = None,
    ) -> Array:
        """dropout(softmax(scale · QKᵀ + bias))·V for every sequence by itself → (T, N, H).

        Query head n reads key/value head n // (N/K). Under a causal mask the last query of a sequence stands at its
        last key; with a window a query sees only keys nearer than that. Self, cross, cached and packed attention
        differ only in `queries` and `keys`. Probabilities are normalised before they meet V, so that a tap can change
        them without changing the arithmetic.
        """

    def key_values(self, key_SKH: Array, value_SKH: Array, spans: Spans) -> KeyValues:
        """Keys and values that many passes will read, as those of an encoder, in the form that attention reads best."""
        return PackedKeyValues(key_SKH, value_SKH, spans)

    @abstractmethod
    def key_value_store(self, layers: Sequence[tuple[int, int]]) -> KeyValueStore:
        """An empty store for layers of (num_key_value_heads, head_dim)."""
