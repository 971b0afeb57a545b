"""The KV cache maps each sequence to pages of keys and values.

Paged attention: Kwon et al. 2023, arXiv:2309.06180.
"""

import numpy as np

from triform import spec
from triform.engines import Engine, Integers, KeysAndValues, KeyValueStore, PageTable, Spans
from triform.errors import InputError
from triform.generation.pages import OutOfPagesError, PagePool, Prefix

NO_PAGE = -1


class KeyValueCache:
    """The KV cache of B growing sequences, as pages of a pool.

    Sequences may share pages: beams share their common tokens, and requests share prefixes. Before a sequence writes
    into a shared page, the cache copies the page (copy-on-write).
    """

    def __init__(self, pool: PagePool, num_sequences: int) -> None:
        self.pool = pool
        self._page_size = pool.page_size
        self.lengths: Integers = np.zeros(num_sequences, np.int64)
        self._pages: Integers = np.zeros((num_sequences, 0), np.int64)
        """(B, most pages of a sequence) page numbers of each sequence, padded with `NO_PAGE`."""
        self._may_share_last = False
        """Whether a page with free rows may have several users."""
        self._flat: tuple[Integers, Spans] | None = None
        """The pages of all sequences end to end, computed when needed; None after a change."""

    @property
    def store(self) -> KeyValueStore:
        """The store of the pages of keys and values."""
        return self.pool.store

    def reserve(self, counts: Integers) -> PageTable:
        """Reserve pages for `counts` (B,) new tokens. `commit` counts the tokens after the pass.

        Raises:
            InputError: batch and cache differ in the number of sequences.
            OutOfPagesError: the pages exceed the pool's budget; the cache is unchanged.
        """
        if len(counts) != len(self.lengths):
            raise InputError(
                f"cache: it holds {len(self.lengths)} sequences, but the batch has {len(counts)}. "
                "Continue all sequences of a cache at once, or keep() those that go on."
            )
        size = self._page_size
        lengths = self.lengths + counts
        if self._may_share_last:
            self._unshare_last_pages(counts)
        if self._flat is None or (lengths > self._flat[1].lengths * size).any():
            self._extend(-(-lengths // size))
            self._flat = None
        pages, spans = self._flatten()
        # Position of each new token in its sequence → page and row in the page.
        if (counts == 1).all():  # the usual step of decoding
            positions, begins = lengths - 1, spans.begins
        else:
            ends = counts.cumsum()
            positions = np.arange(ends[-1]) + (lengths - ends).repeat(counts)
            begins = spans.begins.repeat(counts)
        slots = pages[begins + positions // size] * size + positions % size
        return PageTable(pages, spans, lengths, slots)

    def reading_table(self) -> PageTable:
        """Make the page table of all sequences, for a pass without new keys."""
        return PageTable(*self._flatten(), self.lengths, np.zeros(0, np.int64))

    def commit(self, counts: Integers) -> None:
        """Add `counts` (B,) to the lengths, after the pass has written the reserved tokens."""
        self.lengths = self.lengths + counts

    def keep(self, sequences: Integers) -> None:
        """Keep the sequences with these numbers, (B,), in the order given; repeated numbers share pages.

        Pages without a user go back to the pool.
        """
        before = self._pages
        self._pages = before[sequences]
        self.lengths = self.lengths[sequences]
        self._may_share_last |= len(np.unique(sequences)) < len(sequences)
        self._settle(before)

    def truncate(self, lengths: Integers) -> None:
        """Cut each sequence to at most `lengths` (B,) tokens."""
        before = self._pages.copy()
        self.lengths = np.minimum(self.lengths, lengths)
        self._may_share_last = True
        self._settle(before)

    def append(self, prefix: Prefix) -> int:
        """Add a sequence with a prefix from the pool, and return the number of cached tokens.

        Full pages are shared. A page of which only the first rows match is copied, unless the budget is used up.
        """
        nothing = np.zeros(0, np.int64)
        self.pool.exchange(nothing, np.array(prefix.pages, np.int64))
        pages, length = list(prefix.pages), prefix.num_tokens
        if prefix.partial_page is not None:
            try:
                pages.append(self.pool.copy_page(prefix.partial_page))
            except OutOfPagesError:
                length -= prefix.num_partial
        width = max(self._pages.shape[1], len(pages))
        self._widen(width)
        own = np.full((1, width), NO_PAGE, np.int64)
        own[0, : len(pages)] = pages
        self._pages = np.concatenate([self._pages, own])
        self.lengths = np.append(self.lengths, length)
        self._flat = None
        return length

    def page(self, sequence: int, place: int) -> int:
        """Return the number of the page at a place of a sequence."""
        return int(self._pages[sequence, place])

    def _settle(self, before: Integers) -> None:
        """Drop the pages beyond each length, which a failed pass leaves, and update the users in the pool."""
        counts = -(-self.lengths // self._page_size)
        self._pages = self._pages[:, : counts.max(initial=0)]
        self._pages[np.arange(self._pages.shape[1]) >= counts[:, None]] = NO_PAGE
        self.pool.exchange(before[before != NO_PAGE], self._pages[self._pages != NO_PAGE])
        self._flat = None

    def _flatten(self) -> tuple[Integers, Spans]:
        if self._flat is None:
            is_page = self._pages != NO_PAGE
            self._flat = self._pages[is_page], Spans.of_lengths(is_page.sum(axis=1))
        return self._flat

    def _unshare_last_pages(self, counts: Integers) -> None:
        """Copy-on-write: copy the last page of each sequence that will write into a page with other users."""
        places, begun = np.divmod(self.lengths, self._page_size)
        writers = np.flatnonzero((begun > 0) & (counts > 0))
        pages = self._pages[writers, places[writers]]
        order = np.argsort(pages, kind="stable")
        pages, writers = pages[order], writers[order]
        nth_writer = np.arange(len(pages)) - np.searchsorted(pages, pages)
        # If all users write, the last one keeps the page itself.
        copies = nth_writer < self.pool.num_users[pages] - 1
        pages, writers = pages[copies], writers[copies]
        if len(pages):
            own = self.pool.take(len(pages))
            self.store.copy_pages(pages, own)
            self._pages[writers, places[writers]] = own
            self.pool.exchange(pages, np.zeros(0, np.int64))
            self._flat = None
        self._may_share_last = not bool((counts > 0).all())

    def _extend(self, counts: Integers) -> None:
        """Give each sequence at least `counts` (B,) pages."""
        width = max(int(counts.max(initial=0)), self._pages.shape[1])
        self._widen(width)
        is_missing = (self._pages == NO_PAGE) & (np.arange(width) < counts[:, None])
        if is_missing.any():
            self._pages[is_missing] = self.pool.take(int(is_missing.sum()))

    def _widen(self, width: int) -> None:
        if (more := width - self._pages.shape[1]) > 0:
            self._pages = np.pad(self._pages, ((0, 0), (0, more)), constant_values=NO_PAGE)


def new_cache(engine: Engine, stack: spec.Stack, num_sequences: int) -> KeyValueCache:
    """Make an empty cache for the self-attention of a decoder's stack, with a new pool."""
    return KeyValueCache(PagePool(engine, self_attention_layers(stack)), num_sequences)


def self_attention_layers(stack: spec.Stack) -> list[KeysAndValues]:
    """Describe the cache of each self-attention of a stack, for the store."""
    return _layers(stack, spec.SelfAttention)


def cross_attention_layers(stack: spec.Stack) -> list[KeysAndValues]:
    """Describe the cache of each cross-attention of a stack, for the store."""
    return _layers(stack, spec.CrossAttention)


def _layers(stack: spec.Stack, kind: type[spec.SelfAttention] | type[spec.CrossAttention]) -> list[KeysAndValues]:
    cores = [residual.core for block in stack.blocks for residual in block]
    return [
        KeysAndValues(core.heads.num_key_value_heads, core.heads.head_dim) for core in cores if isinstance(core, kind)
    ]
