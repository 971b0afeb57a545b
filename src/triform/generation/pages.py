"""Pages of a key/value store: reference counts, a prefix cache, a byte budget. Knows nothing of what pages hold."""

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

PREFIX_BYTES = 512 << 20
"""Most bytes of pages that are kept for later requests after their sequences have ended."""

MIN_COPIED_ROWS = 8
"""A shorter beginning of a page is read again: to copy the page of every layer costs about as much."""

MAX_CHILDREN = 32
"""How many pages behind one prefix are compared token by token; the latest come first."""

MIN_GROWTH = 8
"""Fewest pages by which a store grows."""


class OutOfPagesError(Exception):
    """The pool cannot hand out so many pages within its budget. The scheduler makes room; users never see it."""


class Prefix(NamedTuple):
    """The longest beginning of a prompt that the pool holds."""

    pages: list[int]
    """Full pages, in order."""
    key: bytes
    """The key of the last of them."""
    partial_page: int | None
    """A page of which the first `num_partial` rows follow, to be copied."""
    num_partial: int
    num_tokens: int
    """Tokens of all pages together."""


@dataclass(frozen=True, slots=True)
class CachedPage:
    """The tokens of a page in the prefix cache."""

    parent: bytes
    """The key of the tokens before the page."""
    tokens: tuple[int, ...]
    """At most `page_size`; rows behind them may hold anything."""
    key: bytes | None
    """The key of all tokens up to the end of the page; None for a page that is not full."""


def page_key(parent: bytes, tokens: Sequence[int]) -> bytes:
    """Digest the tokens of a full page and of all pages before it, so that equal keys mean equal prefixes."""
    return blake2b(parent + np.asarray(tokens, "<i8").tobytes(), digest_size=16).digest()


@dataclass(eq=False)
class PagePool:
    """Hands out the pages of one store, counts their users, and finds pages of prefixes that were read before.

    A page is free, in use by one or more sequences, or cached: in use by none, but found by its tokens. Cached pages
    are given up first, the least recently used before others. Rows of a page are only ever appended, so the first n
    rows of a page hold the same tokens for as long as the page is in use or cached.

    Arguments:
        engine: makes the store.
        layers: what the store keeps for each layer.
        budget: most bytes of pages, or None for no limit.
        keeps_prefixes: whether pages of ended sequences are kept to be found again.
    """

    engine: Engine
    layers: Sequence[KeysAndValues]
    budget: int | None = None
    keeps_prefixes: bool = False
    num_reused_tokens: int = 0
    """Tokens of prompts that were found in the pool and not read again, since the pool was made."""
    _by_key: dict[bytes, int] = field(default_factory=dict)
    """Key → the full page that holds the last tokens of that prefix."""
    _children: dict[bytes, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    """Key → the cached pages that come next, each with its tokens."""
    _cached: dict[int, CachedPage] = field(default_factory=dict)
    """Page → what the prefix cache knows of it, whether a sequence uses it or not."""
    _unused: "OrderedDict[int, None]" = field(default_factory=OrderedDict)
    """Cached pages that no sequence uses, the least recently used first."""

    def __post_init__(self) -> None:
        self.page_size = self.engine.page_size
        self.store = self.engine.key_value_store(self.layers)
        self.num_users: Integers = np.zeros(0, np.int64)
        """For each page of the store, how many sequences use it."""
        page_bytes = max(1, self.store.page_bytes)
        self.max_pages = None if self.budget is None else self.budget // page_bytes
        self._max_unused = PREFIX_BYTES // page_bytes if self.keeps_prefixes else 0

    def num_available(self) -> int | None:
        """Count the pages that `take` can still hand out; None where no budget limits them."""
        return None if self.max_pages is None else self.max_pages - int(np.count_nonzero(self.num_users))

    def take(self, count: int) -> Integers:
        """Hand out pages with one user each, the lowest numbers first, so that neighbours lie together.

        Raises:
            OutOfPagesError: the budget does not allow so many.
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
        """Count one user less for each page of `released`, and one more for each of `acquired`; pages may repeat."""
        size = len(self.num_users)
        change = np.bincount(acquired, minlength=size) - np.bincount(released, minlength=size)
        self.num_users += change
        if not self._cached:
            return
        for page in np.flatnonzero(change > 0).tolist():
            self._unused.pop(page, None)
        # Later pages of a sequence are given up before those that they continue.
        is_idle = self.num_users[released] == 0
        for page in released[is_idle][::-1].tolist():
            if page in self._cached:
                self._unused[page] = None
                self._unused.move_to_end(page)
        while len(self._unused) > self._max_unused:
            self._forget(next(iter(self._unused)))

    def copy_page(self, source: int) -> int:
        """Hand out a page with the contents of another.

        Raises:
            OutOfPagesError: the budget does not allow one.
        """
        # The copied page must not be given up for its own copy.
        self.num_users[source] += 1
        try:
            own = self.take(1)
        finally:
            self.num_users[source] -= 1
        self.store.copy_pages(np.array([source]), own)
        return int(own[0])

    def add_prefix(self, page: int, parent: bytes, tokens: Sequence[int]) -> bytes:
        """Make a page findable by its tokens, and return the key of the prefix that it ends, or of its parent."""
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
        """Find the longest beginning of a prompt in the pool, but never all of it: the last token's logits are wanted.

        Arguments:
            ids: the prompt.
            keys: of its full pages, as `prompt_keys` gives them.
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
        """Count the pages at the beginning of a prompt that the pool holds."""
        return next((place for place, key in enumerate(keys) if key not in self._by_key), len(keys))

    def prompt_keys(self, ids: Sequence[int]) -> list[bytes]:
        """Compute the keys of all full pages of a prompt; none where the pool keeps no prefixes."""
        keys: list[bytes] = []
        if self.keeps_prefixes:
            for end in range(self.page_size, len(ids) + 1, self.page_size):
                keys.append(page_key(keys[-1] if keys else ROOT, ids[end - self.page_size : end]))
        return keys

    def forget_prefixes(self) -> None:
        """Empty the prefix cache; pages in use stay."""
        for page in list(self._cached):
            self._forget(page)

    def shrink(self) -> None:
        """Give memory back when no sequence uses a page: the store keeps the cached pages alone."""
        if self.num_users.any() or len(self.num_users) <= max(2 * len(self._unused), MIN_GROWTH):
            return
        kept = list(self._unused)
        self.store.keep_pages(np.array(kept, np.int64))
        number = {page: place for place, page in enumerate(kept)}
        self.num_users = np.zeros(len(kept), np.int64)
        self._unused = OrderedDict.fromkeys(range(len(kept)))
        self._cached = {number[page]: known for page, known in self._cached.items()}
        self._by_key = {key: number[page] for key, page in self._by_key.items()}
        self._children = {
            parent: {number[page]: tokens for page, tokens in pages.items()} for parent, pages in self._children.items()
        }

    def _latest_children(self, key: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
        return islice(reversed(self._children.get(key, {}).items()), MAX_CHILDREN)

    def _has_beginning(self, parent: bytes, tokens: Sequence[int]) -> bool:
        """Tell whether a cached page behind this prefix begins with these tokens."""
        return any(known[: len(tokens)] == tuple(tokens) for _, known in self._latest_children(parent))

    def _free_pages(self) -> Integers:
        is_free = self.num_users == 0
        is_free[list(self._unused)] = False
        return np.flatnonzero(is_free)

    def _grow(self, missing: int) -> None:
        """Make the store larger by `missing` pages or more, as far as the budget goes."""
        num_pages = len(self.num_users)
        # Doubling keeps the copies of a growing store to a constant number for each page.
        target = num_pages + max(num_pages, missing, MIN_GROWTH)
        if self.max_pages is not None:
            target = min(target, self.max_pages)
        if target > num_pages:
            self.store.grow(target)
            self.num_users = np.append(self.num_users, np.zeros(target - num_pages, np.int64))

    def _forget(self, page: int) -> None:
        """Take a page out of the prefix cache."""
        known = self._cached.pop(page)
        self._unused.pop(page, None)
        if known.key is not None:
            del self._by_key[known.key]
        siblings = self._children[known.parent]
        del siblings[page]
        if not siblings:
            del self._children[known.parent]


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Count the tokens with which both begin."""
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))
