"""Spans of packed sequences, and the keys and values of attention: packed, or in the pages of a KV cache's store.

Shape letters are listed in `protocol/__init__.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from triform.engines.protocol.arrays import Array, Integers


@dataclass(frozen=True, eq=False)
class Spans:
    """The rows of each sequence in a packed array: sequence b has rows `begins[b]` up to, not including, `ends[b]`.

    Two sequences may have the same rows: the beams of one sentence share its cross keys and values.
    """

    begins: Integers
    ends: Integers

    @classmethod
    def of_lengths(cls, lengths: Integers) -> "Spans":
        """Make the spans of sequences laid end to end, from (B,) lengths."""
        ends = lengths.cumsum()
        return cls(ends - lengths, ends)

    @cached_property
    def lengths(self) -> Integers:
        """Number of rows of each sequence, (B,)."""
        return self.ends - self.begins

    def __len__(self) -> int:
        return len(self.begins)

    def select(self, sequences: Integers) -> "Spans":
        """Select the spans of some sequences, (B,) numbers, in the order given."""
        return Spans(self.begins[sequences], self.ends[sequences])

    def pairs(self) -> list[tuple[int, int]]:
        """List (begin, end) of each sequence as Python integers."""
        return list(zip(self.begins.tolist(), self.ends.tolist(), strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class PackedKeyValues:
    """Keys and values of this forward pass, packed; key j of a sequence is row `begins + j`."""

    key: Array
    """(S, K, H)"""
    value: Array
    """(S, K, H)"""
    spans: Spans

    def select(self, sequences: Integers) -> "PackedKeyValues":
        """Select sequences, (B,) numbers in the order given with repeats allowed, without a copy."""
        return replace(self, spans=self.spans.select(sequences))


@dataclass(frozen=True, eq=False, slots=True)
class PageTable:
    """The pages of each sequence in a store (paged attention: Kwon et al. 2023, arXiv:2309.06180).

    Key j of sequence b is in place j mod page_size of page `pages[spans.begins[b] + j // page_size]`.
    """

    pages: Integers
    """(P,) page numbers: the pages of the first sequence in order, then of the next. Sequences may share pages."""
    spans: Spans
    """The part of `pages` that belongs to each sequence."""
    lengths: Integers
    """(B,) number of keys of each sequence, the new ones of this pass included."""
    slots: Integers
    """(T,) slots for the new rows of this pass: page · page_size + place in the page; never in a shared page."""

    def select(self, sequences: Integers) -> "PageTable":
        """Select sequences, (B,) numbers in the order given with repeats allowed, for reading."""
        return replace(self, spans=self.spans.select(sequences), lengths=self.lengths[sequences])


class KeysAndValues(NamedTuple):
    """A layer caches a key and a value for each token and key/value head, in float32."""

    num_key_value_heads: int
    head_dim: int


LayerCache = KeysAndValues
"""The cache of one layer, as a sum type: each kind of cache is a class.

Latent rows (multi-head latent attention) and recurrent states would be further members. A format of the cached numbers
would be a field of a member.
"""


class KeyValueStore(ABC):
    """The memory of a KV cache: pages of `Engine.page_size` tokens, for all layers.

    The engine owns the pages; `generation/` decides which sequence has which page.
    """

    @property
    @abstractmethod
    def page_bytes(self) -> int:
        """Bytes of a page, summed over all layers."""

    @abstractmethod
    def grow(self, num_pages: int) -> None:
        """Make room for `num_pages` pages in all; present pages keep their contents."""

    @abstractmethod
    def keep_pages(self, pages: Integers) -> None:
        """Keep only the pages (P,), renumbered 0 to P − 1, and free the memory of all other pages."""

    @abstractmethod
    def copy_pages(self, sources: Integers, targets: Integers) -> None:
        """Copy the pages `sources` to the pages `targets`, (P,) each, in all layers."""

    @abstractmethod
    def write(self, layer: int, key_TKH: Array, value_TKH: Array, table: PageTable) -> None:
        """Write new keys and values of a layer, (T, K, H) each, to `table.slots`."""


@dataclass(frozen=True, eq=False, slots=True)
class PagedKeyValues:
    """Keys and values of a layer in the pages of a store."""

    store: KeyValueStore
    layer: int
    table: PageTable

    def select(self, sequences: Integers) -> "PagedKeyValues":
        """Select sequences, (B,) numbers in the order given with repeats allowed, without a copy."""
        return replace(self, table=self.table.select(sequences))


KeyValues = PackedKeyValues | PagedKeyValues
