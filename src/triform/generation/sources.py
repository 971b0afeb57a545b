"""The cross-attention cache: keys and values of the encoded sources, in pages of a pool."""

from collections.abc import Sequence

import numpy as np

from triform.engines import Array, Integers, KeyValues, PagedKeyValues, PageTable, Spans
from triform.generation.cache import KeyValueCache
from triform.generation.pages import OutOfPagesError, PagePool, Prefix
from triform.networks.context import ProjectKeyValues

NO_PREFIX = Prefix(pages=[], key=b"", partial_page=None, num_partial=0, num_tokens=0)


class SourceMemory:
    """Keys and values of the sources of B sequences, projected once, in the first pass of the decoder.

    Row b belongs to row b of the decoder's KV cache. Beams of one source share pages.
    """

    def __init__(self, pool: PagePool) -> None:
        self._cache = KeyValueCache(pool, 0)
        self._table: PageTable | None = None
        """Page table of all rows, computed when needed; None after a change."""
        self._new_states: Array | None = None
        """(S, D) states of new sources, until every layer has projected them."""
        self._new_table: PageTable | None = None
        self._projected: set[int] = set()
        """Layers that have projected the new states."""

    def append(self, states_SD: Array, spans: Spans, num_rows: Sequence[int]) -> None:
        """Add encoded sources, (S, D) states, with `num_rows` rows for each source.

        Raises:
            OutOfPagesError: the pages exceed the pool's budget; the memory is unchanged.
        """
        num_before = len(self._cache.lengths)
        for _ in range(len(spans)):
            self._cache.append(NO_PREFIX)
        counts = np.zeros_like(self._cache.lengths)
        counts[num_before:] = spans.lengths
        try:
            self._new_table = self._cache.reserve(counts)
        except OutOfPagesError:
            self._cache.keep(np.arange(num_before))
            raise
        self._cache.commit(counts)
        self._new_states, self._projected, self._table = states_SD, set(), None
        if max(num_rows) > 1:
            rows = np.repeat(np.arange(len(counts)), [1] * num_before + list(num_rows))
            self.keep(rows)

    def keep(self, rows: Integers) -> None:
        """Keep the rows with these numbers, (B,), in the order given; repeated numbers share pages."""
        self._cache.keep(rows)
        self._table = None

    def compute_key_values(self, layer: int, project: ProjectKeyValues, *, is_hooked: bool) -> KeyValues:
        """Return the keys and values of a layer for all rows. New states are projected, and shown to a hook, first."""
        if self._new_states is not None and layer not in self._projected:
            assert self._new_table is not None
            key, value = project(self._new_states)
            self._cache.store.write(layer, key, value, self._new_table)
            self._projected.add(layer)
        if self._table is None:
            self._table = self._cache.reading_table()
        return PagedKeyValues(self._cache.store, layer, self._table)

    def finish_pass(self) -> None:
        """Drop the states of new sources: every layer has projected them."""
        self._new_states = self._new_table = None
