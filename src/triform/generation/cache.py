"""Which pages of the engine's store hold which sequence. Knows nothing of what is in them."""

import numpy as np

from triform import spec
from triform.engines import Engine, Integers, KeyValueStore, PageTable, Spans
from triform.errors import InputError


class KeyValueCache:
    """Keys and values of growing sequences, in pages handed out as they are needed and taken back when they end.

    Sequences that began as one share the pages of their common beginning; who writes into a shared page gets a copy.
    """

    def __init__(self, engine: Engine, stack: spec.Stack, num_sequences: int) -> None:
        heads = [
            residual.core.heads
            for block in stack.blocks
            for residual in block
            if isinstance(residual.core, spec.SelfAttention)
        ]
        layers = [(head.num_key_value_heads, head.head_dim) for head in heads]
        self.engine = engine
        self.stack = stack
        self.store: KeyValueStore = engine.key_value_store(layers)
        self._page_size = engine.page_size
        self.lengths: Integers = np.zeros(num_sequences, np.int64)
        self._pages: list[list[int]] = [[] for _ in range(num_sequences)]
        self._num_users: list[int] = []
        """For each page of the store, how many sequences it belongs to."""
        self._free: list[int] = []

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
        for owned, start, length in zip(self._pages, self.lengths.tolist(), lengths.tolist(), strict=True):
            self._unshare(owned, start)
            owned.extend(self._take(-(-length // size) - len(owned)))
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
        """Go on with some sequences, in the order given; one may be named twice, and its pages are shared.

        Pages that no sequence has any more are free again.
        """
        self._replace([list(self._pages[sequence]) for sequence in sequences.tolist()])
        self.lengths = self.lengths[sequences]

    def truncate(self, lengths: Integers) -> None:
        """Forget the tokens of each sequence from `lengths` (B,) on."""
        self.lengths = np.minimum(self.lengths, lengths)
        counts = -(-self.lengths // self._page_size)
        self._replace([pages[:count] for pages, count in zip(self._pages, counts.tolist(), strict=True)])

    def _replace(self, new_pages: list[list[int]]) -> None:
        """Give sequences other pages of those in use; what no sequence has any more is free again."""
        for pages, change in [*((pages, 1) for pages in new_pages), *((pages, -1) for pages in self._pages)]:
            for page in pages:
                self._num_users[page] += change
        left = {page for pages in self._pages for page in pages if not self._num_users[page]}
        self._free = sorted([*self._free, *left], reverse=True)
        self._pages = new_pages

    def _unshare(self, pages: list[int], start: int) -> None:
        """Give a sequence pages of its own from position `start` on."""
        for place in range(start // self._page_size, len(pages)):
            shared = pages[place]
            if self._num_users[shared] > 1:
                self._num_users[shared] -= 1
                [pages[place]] = self._take(1)
                if place * self._page_size < start:
                    self.store.copy_page(shared, pages[place])

    def _take(self, count: int) -> list[int]:
        """The lowest free pages, which a sequence now has to itself."""
        while len(self._free) < count:
            # Doubling keeps the copies of a growing store to a constant number for each page.
            more = range(len(self._num_users), len(self._num_users) + max(len(self._num_users), count, 8))
            self._free = [*reversed(more), *self._free]
            self._num_users += [0] * len(more)
            self.store.grow(len(self._num_users))
        taken = [self._free.pop() for _ in range(count)]
        for page in taken:
            self._num_users[page] = 1
        return taken
