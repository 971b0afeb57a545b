"""Which rows are whose, and where keys and values lie: packed in this very pass, or in the pages of a store.

Shape letters are listed in `protocol/__init__.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from triform.engines.protocol.arrays import Array, Integers


@dataclass(frozen=True, eq=False)
class Spans:
    """Which rows of a packed array belong to which sequence: those from `begins[b]` up to `ends[b]`.

    Two sequences may name the same rows: the beams of one sentence share its cross keys and values.
    """

    begins: Integers
    ends: Integers

    @classmethod
    def of_lengths(cls, lengths: Integers) -> "Spans":
        """Spans of sequences that lie end to end."""
        ends = np.cumsum(lengths)
        return cls(ends - lengths, ends)

    @cached_property
    def lengths(self) -> Integers:
        """(B,) rows of each sequence."""
        return self.ends - self.begins

    def __len__(self) -> int:
        return len(self.begins)

    def select(self, sequences: Integers) -> "Spans":
        """The spans of some sequences, in the order given."""
        return Spans(self.begins[sequences], self.ends[sequences])

    def pairs(self) -> list[tuple[int, int]]:
        """(begin, end) of each sequence, as Python integers."""
        return list(zip(self.begins.tolist(), self.ends.tolist(), strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class PackedKeyValues:
    """Keys and values computed in this very pass; key j of a sequence is row `begins + j`."""

    key: Array
    """(S, K, H)"""
    value: Array
    """(S, K, H)"""
    spans: Spans

    def select(self, sequences: Integers) -> "PackedKeyValues":
        """Those of some sequences, in the order given; one may be named twice. Nothing is copied."""
        return replace(self, spans=self.spans.select(sequences))


@dataclass(frozen=True, eq=False, slots=True)
class PageTable:
    """Where the keys of each sequence lie in a store.

    Key j of sequence b is in place j mod page_size of page `pages[spans.begins[b] + j // page_size]`.
    """

    pages: Integers
    """(P,) page numbers: those of the first sequence in order, then those of the next. Sequences may share pages."""
    spans: Spans
    """Which of them belong to which sequence."""
    lengths: Integers
    """(B,) keys of each sequence, those of this pass included."""
    slots: Integers
    """(T,) where this pass puts its new rows: page · page_size + place in the page; never in a page that is shared."""

    def select(self, sequences: Integers) -> "PageTable":
        """The table of some sequences, for reading; one may be named twice."""
        return replace(self, spans=self.spans.select(sequences), lengths=self.lengths[sequences])


class KeyValueStore(ABC):
    """Keys and values of all layers, in pages of `Engine.page_size`. The engine owns them, `generation/` deals them."""

    @abstractmethod
    def grow(self, num_pages: int) -> None:
        """Make room for `num_pages` pages in all; those there keep their contents."""

    @abstractmethod
    def copy_pages(self, sources: Integers, targets: Integers) -> None:
        """Make the contents of each page of `targets` those of its page of `sources`, in all layers."""

    @abstractmethod
    def write(self, layer: int, key_TKH: Array, value_TKH: Array, table: PageTable) -> None:
        """Put new rows where `table.slots` says."""


@dataclass(frozen=True, eq=False, slots=True)
class PagedKeyValues:
    """Keys and values of one layer, in the pages of a store."""

    store: KeyValueStore
    layer: int
    table: PageTable

    def select(self, sequences: Integers) -> "PagedKeyValues":
        """Those of some sequences, in the order given; one may be named twice. Nothing is copied."""
        return replace(self, table=self.table.select(sequences))


KeyValues = PackedKeyValues | PagedKeyValues
