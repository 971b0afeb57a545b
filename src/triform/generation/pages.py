"""Pages of a key/value store: reference counts, a prefix cache, a byte budget.

This module handles page numbers only; the engine's store holds the keys and values.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

import numpy as np

from triform.engines import Engine, Integers, KeysAndValues

ROOT = b""
"""The key of the empty prefix."""

PREFIX_BYTES = 256 << 20
"""Most bytes of cached pages without a user, kept for later requests."""

FREE_BYTES = 16 << 20
"""Most bytes of free pages that stay for the next request. Memory new to the process costs about 1 ms for each MiB."""

MIN_COPIED_ROWS = 8
"""Fewest matching rows for which a page is copied. Computing fewer rows costs about as much as the copy."""

MAX_CHILDREN = 32
"""Most pages behind a prefix to compare token by token, the latest first."""

MIN_GROWTH = 8
"""Fewest pages by which a store grows."""


class OutOfPagesError(Exception):
    """The budget of a pool is used up. The scheduler preempts a request then; users never see this error."""


class Prefix(NamedTuple):
    """The longest cached prefix of a prompt."""

    pages: list[int]
    """Full pages, in order."""
    key: bytes
    """The key of the last full page."""
    partial_page: int | None
    """The next page, to be copied, if its first `num_partial` rows match; None without a match."""
    num_partial: int
    num_tokens: int
    """Tokens of all pages together."""


@dataclass(frozen=True, slots=True)
class CachedPage:
    """The tokens of a page in the prefix cache."""

    parent: bytes
    """The key of the tokens before the page."""
    tokens: tuple[int, ...]
    """At most `page_size` tokens; later rows of the page may hold anything."""
    key: bytes | None
    """The key of all tokens up to the end of the page; None for a page that is not full."""


def page_key(parent: bytes, tokens: Sequence[int]) -> bytes:
    """Hash the tokens of a full page and of all pages before: equal keys mean equal prefixes."""
    return blake2b(parent + np.asarray(tokens, "<i8").tobytes(), digest_size=16).digest()


@dataclass(eq=False)
class PagePool:
    """A pool allocates the pages of a store, counts their users, and finds cached prefixes.

    A page is in one of three states: free, in use by one or more sequences, or cached, which means unused but found by
    its tokens. If the budget is used up or the cached pages exceed `PREFIX_BYTES`, cached pages are evicted, the least
    recently used first. Rows of a page are only appended, so the first n rows hold the same tokens for as long as the
    page is in use or cached.

    Arguments:
        engine: makes the store.
        layers: the cache of each layer.
        budget: most bytes of pages, or None for no limit.
        keeps_prefixes: whether the pages of ended sequences stay in a prefix cache.
    """

    engine: Engine
    layers: Sequence[KeysAndValues]
    budget: int | None = None
    keeps_prefixes: bool = False
    num_reused_tokens: int = 0
    """Prompt tokens found in the prefix cache and not computed again, since the pool was made."""
    _by_key: dict[bytes, int] = field(default_factory=dict)
    """Key → full page with the last tokens of the prefix."""
    _children: dict[bytes, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    """Key of a prefix → cached pages behind the prefix → tokens of the page."""
    _cached: dict[int, CachedPage] = field(default_factory=dict)
    """Page → entry of the prefix cache, for pages in use too."""
    _unused: "OrderedDict[int, None]" = field(default_factory=OrderedDict)
    """Cached pages without a user, the least recently used first."""

    def __post_init__(self) -> None:
        self.page_size = self.engine.page_size
        self.store = self.engine.key_value_store(self.layers)
        self.num_users: Integers = np.zeros(0, np.int64)
        """(pages,) the number of sequences that use each page of the store."""
        self._is_unused = np.zeros(0, np.bool_)
        """(pages,) whether each page is one of `_unused`."""
        page_bytes = max(1, self.store.page_bytes)
        self.max_pages = None if self.budget is None else self.budget // page_bytes
        self._max_unused = PREFIX_BYTES // page_bytes if self.keeps_prefixes else 0
        self._max_free = FREE_BYTES // page_bytes

    def num_available(self) -> int | None:
        """Count the pages that `take` can still allocate; None without a budget."""
        return None if self.max_pages is None else self.max_pages - int(np.count_nonzero(self.num_users))

    def take(self, count: int) -> Integers:
        """Allocate pages with a single user each: numbers of shape (count,), the lowest first for contiguous sequences.

        Raises:
            OutOfPagesError: the pages exceed the budget.
        """
        available = self.num_available()
        if available is not None and count > available:
            raise OutOfPagesError
        free = self._free_pages()
        if len(free) < count:
            self._grow(count - len(free))
            free = self._free_pages()
        if len(free) < count:
            for page in list(self._unused)[: count - len(free)]:
                self._forget(page)
            free = self._free_pages()
        taken = free[:count]
        self.num_users[taken] = 1
        return taken

    def exchange(self, released: Integers, acquired: Integers) -> None:
        """Remove a user from each page of `released` and add one for each of `acquired`, (P,) each, repeats allowed."""
        size = len(self.num_users)
        change = np.bincount(acquired, minlength=size) - np.bincount(released, minlength=size)
        self.num_users += change
        if not self._cached:
            return
        for page in np.flatnonzero((change > 0) & self._is_unused).tolist():
            self._unused.pop(page)
            self._is_unused[page] = False
        # Later pages of a sequence are evicted before earlier ones, which other sequences may share.
        is_idle = self.num_users[released] == 0
        for page in released[is_idle][::-1].tolist():
            if page in self._cached:
                self._unused[page] = None
                self._unused.move_to_end(page)
                self._is_unused[page] = True
        while len(self._unused) > self._max_unused:
            self._forget(next(iter(self._unused)))

    def copy_page(self, source: int) -> int:
        """Allocate a page with a copy of the contents of `source`.

        Raises:
            OutOfPagesError: the page exceeds the budget.
        """
        # A user protects the source from eviction while the copy is allocated.
        self.num_users[source] += 1
        try:
            own = self.take(1)
        finally:
            self.num_users[source] -= 1
        self.store.copy_pages(np.array([source]), own)
        return int(own[0])

    def add_prefix(self, page: int, parent: bytes, tokens: Sequence[int]) -> bytes:
        """Add a page to the prefix cache. Return the key of the prefix with this page; `parent` for a partial page."""
        if not self.keeps_prefixes:
            return ROOT
        is_full = len(tokens) == self.page_size
        key = page_key(parent, tokens) if is_full else None
        is_known = self._has_beginning(parent, tokens) if key is None else key in self._by_key
        if not is_known:
            if page in self._cached:
                self._forget(page)
            self._cached[page] = known = CachedPage(parent, tuple(tokens), key)
            self._children.setdefault(parent, {})[page] = known.tokens
            if key is not None:
                self._by_key[key] = page
        return parent if key is None else key

    def find_prefix(self, ids: Sequence[int], keys: Sequence[bytes]) -> Prefix:
        """Find the longest cached prefix of a prompt, without the last token: its logits are needed.

        Arguments:
            ids: the prompt.
            keys: keys of the full pages of the prompt, from `prompt_keys`.
        """
        size, limit = self.page_size, len(ids) - 1
        pages: list[int] = []
        key = ROOT
        for each in keys:
            page = self._by_key.get(each)
            if page is None or (len(pages) + 1) * size > limit:
                break
            pages.append(page)
            key = each
        rest = ids[len(pages) * size : min(limit, (len(pages) + 1) * size)]
        best, num_rows = None, MIN_COPIED_ROWS - 1
        for page, tokens in self._latest_children(key):
            common = _common_length(tokens, rest)
            if common > num_rows:
                best, num_rows = page, common
        num_partial = 0 if best is None else num_rows
        return Prefix(pages, key, best, num_partial, len(pages) * size + num_partial)

    def num_known(self, keys: Sequence[bytes]) -> int:
        """Count the cached pages at the beginning of a prompt."""
        return next((place for place, key in enumerate(keys) if key not in self._by_key), len(keys))

    def prompt_keys(self, ids: Sequence[int]) -> list[bytes]:
        """Compute the keys of all full pages of a prompt; empty without a prefix cache."""
        keys: list[bytes] = []
        if self.keeps_prefixes:
            for end in range(self.page_size, len(ids) + 1, self.page_size):
                keys.append(page_key(keys[-1] if keys else ROOT, ids[end - self.page_size : end]))
        return keys

    def shrink(self) -> None:
        """Free memory if no sequence uses a page and many pages are free: only the cached pages stay in the store."""
        num_free = len(self.num_users) - len(self._unused)
        if self.num_users.any() or num_free <= max(len(self._unused), self._max_free):
            return
        kept = list(self._unused)
        self.store.keep_pages(np.array(kept, np.int64))
        number = {page: place for place, page in enumerate(kept)}
        self.num_users = np.zeros(len(kept), np.int64)
        self._unused = OrderedDict.fromkeys(range(len(kept)))
        self._is_unused = np.ones(len(kept), np.bool_)
        self._cached = {number[page]: known for page, known in self._cached.items()}
        self._by_key = {key: number[page] for key, page in self._by_key.items()}
        self._children = {
            parent: {number[page]: tokens for page, tokens in pages.items()} for parent, pages in self._children.items()
        }

    def _latest_children(self, key: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
        return islice(reversed(self._children.get(key, {}).items()), MAX_CHILDREN)

    def _has_beginning(self, parent: bytes, tokens: Sequence[int]) -> bool:
        """Check whether a cached page behind this prefix begins with these tokens."""
        return any(known[: len(tokens)] == tuple(tokens) for _, known in self._latest_children(parent))

    def _free_pages(self) -> Integers:
        return np.flatnonzero((self.num_users == 0) & ~self._is_unused)

    def _grow(self, missing: int) -> None:
        """Grow the store by at least `missing` pages, within the budget."""
        num_pages = len(self.num_users)
        # Doubling: each page is copied a constant number of times on average while the store grows.
        target = num_pages + max(num_pages, missing, MIN_GROWTH)
        if self.max_pages is not None:
            target = min(target, self.max_pages)
        if target > num_pages:
            self.store.grow(target)
            self.num_users = np.append(self.num_users, np.zeros(target - num_pages, np.int64))
            self._is_unused = np.append(self._is_unused, np.zeros(target - num_pages, np.bool_))

    def _forget(self, page: int) -> None:
        """Remove a page from the prefix cache."""
        known = self._cached.pop(page)
        self._unused.pop(page, None)
        self._is_unused[page] = False
        if known.key is not None:
            del self._by_key[known.key]
        siblings = self._children[known.parent]
        del siblings[page]
        if not siblings:
            del self._children[known.parent]


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Count the tokens of the common prefix."""
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))
