"""Which pages of the engine's store hold which sequence. Knows nothing of what is in them."""

import numpy as np

from triform import spec
from triform.engines import Engine, Integers, KeysAndValues, KeyValueStore, PageTable, Spans
from triform.errors import InputError

NO_PAGE = -1


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
        layers = [KeysAndValues(head.num_key_value_heads, head.head_dim) for head in heads]
        self.engine = engine
        self.stack = stack
        self.store: KeyValueStore = engine.key_value_store(layers)
        self._page_size = engine.page_size
        self.lengths: Integers = np.zeros(num_sequences, np.int64)
        self._pages: Integers = np.zeros((num_sequences, 0), np.int64)
        """(B, most pages of a sequence) the page of each place, and behind the last one `NO_PAGE`."""
        self._num_users: Integers = np.zeros(0, np.int64)
        """For each page of the store, how many sequences it belongs to; those of none are free."""
        self._is_shared = False
        """Whether a page belongs to more than one."""
        self._in_a_row: tuple[Integers, Spans] | None = None
        """The pages of all sequences end to end; None once they have changed."""

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
        if self._is_shared:
            self._unshare_last_pages()
        if self._in_a_row is None or (lengths > self._in_a_row[1].lengths * size).any():
            self._extend(-(-lengths // size))
            is_page = self._pages != NO_PAGE
            self._in_a_row = self._pages[is_page], Spans.of_lengths(is_page.sum(axis=1))
        pages, spans = self._in_a_row
        # The position of each new token in its sequence, and from it the page and the place.
        ends = counts.cumsum()
        positions = np.arange(ends[-1]) + (lengths - ends).repeat(counts)
        slots = pages[spans.begins.repeat(counts) + positions // size] * size + positions % size
        return PageTable(pages, spans, lengths, slots)

    def commit(self, counts: Integers) -> None:
        """The tokens reserved are written."""
        self.lengths = self.lengths + counts

    def keep(self, sequences: Integers) -> None:
        """Go on with some sequences, in the order given; one may be named twice, and its pages are shared.

        Pages that no sequence has any more are free again.
        """
        self._pages = self._pages[sequences]
        self.lengths = self.lengths[sequences]
        self._give_back()

    def truncate(self, lengths: Integers) -> None:
        """Forget the tokens of each sequence from `lengths` (B,) on."""
        self.lengths = np.minimum(self.lengths, lengths)
        self._give_back()

    def _give_back(self) -> None:
        """Free the pages that hold no token of any sequence, those reserved by a pass that failed among them."""
        counts = -(-self.lengths // self._page_size)
        self._pages[np.arange(self._pages.shape[1]) >= counts[:, None]] = NO_PAGE
        self._num_users = np.bincount(self._pages[self._pages != NO_PAGE], minlength=len(self._num_users))
        self._is_shared = bool((self._num_users > 1).any())
        self._in_a_row = None

    def _unshare_last_pages(self) -> None:
        """Give each sequence whose last page is not full that page to itself: all of its users but one take a copy."""
        places, begun = np.divmod(self.lengths, self._page_size)
        writers = np.flatnonzero(begun)
        pages = self._pages[writers, places[writers]]
        order = np.argsort(pages, kind="stable")
        pages, writers = pages[order], writers[order]
        nth_writer = np.arange(len(pages)) - np.searchsorted(pages, pages)
        copies = nth_writer < self._num_users[pages] - 1
        pages, writers = pages[copies], writers[copies]
        own = self._take(len(pages))
        self.store.copy_pages(pages, own)
        self._pages[writers, places[writers]] = own
        np.subtract.at(self._num_users, pages, 1)
        self._in_a_row = None

    def _extend(self, counts: Integers) -> None:
        """Give each sequence so many pages."""
        width = self._pages.shape[1]
        if (more := int(counts.max()) - width) > 0:
            self._pages = np.pad(self._pages, ((0, 0), (0, more)), constant_values=NO_PAGE)
        is_missing = (self._pages == NO_PAGE) & (np.arange(width + max(more, 0)) < counts[:, None])
        if is_missing.any():
            self._pages[is_missing] = self._take(int(is_missing.sum()))

    def _take(self, count: int) -> Integers:
        """The lowest free pages, which a sequence now has to itself."""
        free = np.flatnonzero(self._num_users == 0)
        if len(free) < count:
            # Doubling keeps the copies of a growing store to a constant number for each page.
            num_pages = len(self._num_users)
            more = max(num_pages, count - len(free), 8)
            self.store.grow(num_pages + more)
            self._num_users = np.append(self._num_users, np.zeros(more, np.int64))
            free = np.append(free, np.arange(num_pages, num_pages + more))
        taken = free[:count]
        self._num_users[taken] = 1
        return taken
