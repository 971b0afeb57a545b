"""Operations between the rows of a sequence: attention, rotary positions, keys and values."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triform.engines.protocol.arrays import Array, ArrayT, Integers
from triform.engines.protocol.hooks import ProbabilityHook
from triform.engines.protocol.key_values import KeyValues, KeyValueStore, LayerCache, PackedKeyValues, Spans
from triform.spec import ScoreRule


class DistanceBias(NamedTuple):
    """A number per head for each distance, added to the scaled scores. Raffel et al. 2020; ALiBi: Press et al. 2022."""

    values: Array
    """(N, R), so that consecutive keys lie side by side: column r is for key − query = r − `zero`."""
    zero: int
    """The column of distance 0."""


class RelativeEmbeddings(NamedTuple):
    """Vectors for each distance, multiplied with queries and keys. Shaw et al. 2018; He et al. 2021, equation 4.

    With e(d) the row of distance d = j − i, query i and key j score scale · (qᵢ·kⱼ + qᵢ·key[e(d)] + query[e(d)]·kⱼ).
    """

    query: Array
    """(E, N, H) meets the keys."""
    key: Array
    """(E, K, H) meets the queries."""
    rows: Integers
    """(R,) the row of each distance: entry r is for key − query = r − `zero`."""
    zero: int
    """The entry of distance 0."""


Bias = DistanceBias | RelativeEmbeddings
"""The biases that a position scheme may add to the scaled scores."""


class AttentionOperations(ABC, Generic[ArrayT]):
    """An engine computes attention, and owns the store of the KV cache."""

    is_batch_invariant: bool = False
    """True if a sequence has bit-identical results alone, in any batch and through the KV cache."""
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
        """Rotate each pair of channels (i, i + dim/2) of the first dim channels by an angle: (T, N, H) → (T, N, H)."""

    @abstractmethod
    def attention(
        self,
        query_TNH: ArrayT,
        queries: Spans,
        keys: KeyValues,
        rule: ScoreRule,
        *,
        bias: Bias | None = None,
        dropout: float = 0.0,
        hook: ProbabilityHook | None = None,
    ) -> ArrayT:
        """Compute dropout(softmax(scale · QKᵀ + bias))·V for each sequence by itself. Vaswani et al. 2017, section 3.2.

        Query head n reads key/value head n // (N/K). Self, cross, cached and packed attention differ only in `queries`
        and `keys`. Probabilities are normalised before they meet V, so that a hook can change them while the arithmetic
        stays the same.

        Arguments:
            query_TNH: queries of all sequences.
            queries: the rows of `query_TNH` that belong to each sequence.
            keys: keys and values of each sequence; its last query has the position of its last key.
            rule: scale and mask.
            bias: added to the scaled scores.
            dropout: rate for the probabilities, while training.
            hook: sees the probabilities in runs of queries.

        Returns:
            (T, N, H)

        Raises:
            EngineError: the engine has no such bias, or the keys lie in another engine's store.
        """

    def key_values(self, key_SKH: ArrayT, value_SKH: ArrayT, spans: Spans) -> KeyValues:
        """Lay keys and values out for attention, where many passes read the same ones (cross-attention).

        (S, K, H) each.
        """
        return PackedKeyValues(key_SKH, value_SKH, spans)

    @abstractmethod
    def key_value_store(self, layers: Sequence[LayerCache]) -> KeyValueStore:
        """Make an empty store for the caches of these layers."""
