"""Which pages of the engine's store hold which sequence. Knows nothing of what is in them."""

import numpy as np

from triform import spec
from triform.engines import Engine, Integers, KeyValueStore, PageTable, Spans
from triform.errors import InputError


class KeyValueCache:
    """Keys and values of growing sequences, in pages handed out as they are needed and taken back when they end."""

    def __init__(self, engine: Engine, stack: spec.Stack, num_sequences: int) -> None:
        heads = [
            residual.core.heads
            for block in stack.blocks
            for residual in block
            if isinstance(residual.core, spec.SelfAttention)
        ]
        layers = [(head.num_key_value_heads, head.head_dim) for head in heads]
        self.store: KeyValueStore = engine.key_value_store(layers)
        self._page_size = engine.page_size
        self.lengths: Integers = np.zeros(num_sequences, np.int64)
        self._pages: list[list[int]] = [[] for _ in range(num_sequences)]
        self._free: list[int] = []
        self._num_pages = 0

    def reserve(self, counts: Integers) -> PageTable:
        """Find pages for `counts` (B,) new tokens; they count once `commit` says so.

        Raises:
            InputError: the batch has another number of sequences than the cache.
        """
        if len(counts) != len(self.lengths):
            raise InputError(
                f"cache: it holds {len(self.lengths)} sequences, but the batch has {len(counts)}. "
                "Continue all sequences of a cache at once, or keep() those that go on."
            )
        size = self._page_size
        lengths = self.lengths + counts
        for owned, length in zip(self._pages, lengths.tolist(), strict=True):
            self._extend(owned, -(-length // size) - len(owned))
        pages = np.array([page for owned in self._pages for page in owned], np.int64)
        spans = Spans.of_lengths(np.array([len(owned) for owned in self._pages]))
        # The position of each new token in its sequence, and from it the page and the place.
        positions = np.arange(counts.sum()) + np.repeat(self.lengths - np.cumsum(counts) + counts, counts)
        slots = pages[np.repeat(spans.begins, counts) + positions // size] * size + positions % size
        return PageTable(pages, spans, lengths, slots)

    def commit(self, counts: Integers) -> None:
        """The tokens reserved are written."""
        self.lengths = self.lengths + counts

    def keep(self, sequences: Integers) -> None:
        """Go on with some sequences, in the order given; the pages of the others are free again."""
        kept = sequences.tolist()
        for sequence in set(range(len(self._pages))) - set(kept):
            self._free += self._pages[sequence]
        self._pages = [self._pages[sequence] for sequence in kept]
        self.lengths = self.lengths[sequences]

    def _extend(self, pages: list[int], count: int) -> None:
        if count <= 0:
            return
        while len(self._free) < count:
            # Doubling keeps the copies of a growing store to a constant number for each page.
            more = max(self._num_pages, count, 8)
            self._free += range(self._num_pages, self._num_pages + more)
            self._num_pages += more
            self.store.grow(self._num_pages)
        self._free.sort(reverse=True)
        pages += (self._free.pop() for _ in range(count))
