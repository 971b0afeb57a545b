"""Hooks: the interface of tracing and of edits to a running model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from triform.engines.protocol.arrays import Array, Integers
from triform.engines.protocol.key_values import Spans
from triform.spec import Causal, Mask

MAX_RUN_BYTES = 16 << 20
"""Most bytes of float32 probabilities that exist for a hook at once; a single query may take more."""


class Selection(NamedTuple):
    """The heads and queries of attention probabilities to show; the rest is computed in the same way."""

    heads: Sequence[int] | None = None
    """Attention heads, in the order in which they are shown; None for all."""
    rows: Integers | None = None
    """Queries as ascending row numbers of the packed batch; None for all."""

    def ranges(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Find the selected rows in [begin, end), as ranges of consecutive rows."""
        if self.rows is None:
            return [(begin, end)]
        own = self.rows[np.searchsorted(self.rows, begin) : np.searchsorted(self.rows, end)]
        pieces = np.split(own, np.flatnonzero(np.diff(own) != 1) + 1)
        return [(int(piece[0]), int(piece[-1]) + 1) for piece in pieces if len(piece)]


ALL = Selection()


class QueryRun(NamedTuple):
    """Consecutive queries of a sequence, with probabilities in memory at the same time."""

    sequence: int
    """The sequence's place in the pass."""
    rows: slice
    """Rows of the packed batch."""
    first_query: int
    """The first row, counted from the sequence's first row of this pass."""
    position: int
    """The first query's position among the sequence's keys."""
    num_keys: int
    """Keys of the sequence that the run can see, counted from the first."""

    @property
    def num_queries(self) -> int:
        return int(self.rows.stop - self.rows.start)


def split_queries(
    queries: Spans,
    num_keys: Integers,
    mask: Mask,
    num_heads: int,
    *,
    selection: Selection = ALL,
    most_queries: int | None = None,
) -> Iterator[QueryRun]:
    """Split the queries of each sequence into runs of at most `MAX_RUN_BYTES` of probabilities.

    Arguments:
        queries: the rows of the packed batch that belong to each sequence.
        num_keys: (B,) keys of each sequence.
        mask: decides which keys a run can see.
        num_heads: attention heads.
        selection: the rows to go over.
        most_queries: of one run, however few bytes they take.
    """
    for sequence, ((begin, end), own_keys) in enumerate(zip(queries.pairs(), num_keys.tolist(), strict=True)):
        # Engines may pad keys to pages of 32.
        size = max(1, MAX_RUN_BYTES // (4 * num_heads * (own_keys + 31)))
        size = size if most_queries is None else min(size, most_queries)
        for first, last in selection.ranges(begin, end):
            for start in range(first, last, size):
                stop = min(start + size, last)
                seen = own_keys - (end - stop) if isinstance(mask, Causal) else own_keys
                yield QueryRun(sequence, slice(start, stop), start - begin, own_keys - (end - start), seen)


class Hook(ABC):
    """A hook sees the tensors at a model's trace points and may change them.

    A subclass implements `wants` and overrides what else it needs. On the CPU engines the arithmetic is the same with
    and without a hook, bit for bit.
    """

    def enter(self, stack: str, spans: Spans, starts: Integers) -> None:  # noqa: B027  not every hook needs it
        """Begin a pass of a stack; the trace points of the pass follow.

        Arguments:
            stack: "", or "encoder." or "decoder." in an encoder-decoder: the beginning of the names that follow.
            spans: the rows of the packed batch that belong to each sequence.
            starts: (B,) the position of each sequence's first row: how many of its tokens a cache holds already.
        """

    @abstractmethod
    def wants(self, name: str) -> bool | Selection:
        """Choose the trace points to see, for example `blocks.3.attention.query`.

        A selection of heads and queries narrows `….probabilities`; at any other trace point it counts as true.
        """

    def tensor(self, name: str, value: Array) -> Array:
        """See a tensor, and return a tensor of the same shape to go on with."""
        return value

    def probabilities(self, name: str, sequence: int, first_query: int, value_NQK: Array) -> Array:
        """See the attention probabilities of consecutive queries, and return probabilities to go on with.

        Called for each run of queries, or for what was selected of it; the array is the hook's to keep.

        Arguments:
            name: the trace point.
            sequence: the sequence's place in the pass.
            first_query: the first query of the run, counted from the sequence's first row of this pass.
            value_NQK: (heads, queries, keys), from the sequence's first key to the last that the run can see.
        """
        return value_NQK


class ProbabilityHook(NamedTuple):
    """A hook at the attention probabilities of a trace point, for an engine to call."""

    show: Callable[[int, int, Array], Array]
    """(sequence, first query, probabilities (N, Q, K)) → the probabilities to go on with."""
    selection: Selection = ALL

    def apply(self, run: QueryRun, value_NQK: Array) -> Array:
        """Show the selected part of a run's probabilities, and return all of them.

        What changes of a part is written into `value_NQK`; the arrays shown are the hook's to keep.
        """
        if self.selection is ALL:
            return self.show(run.sequence, run.first_query, value_NQK)
        heads = list(range(value_NQK.shape[0]) if self.selection.heads is None else self.selection.heads)
        for begin, end in self.selection.ranges(run.rows.start, run.rows.stop):
            own = slice(begin - run.rows.start, end - run.rows.start)
            value_NQK[heads, own] = self.show(run.sequence, run.first_query + own.start, value_NQK[heads, own])
        return value_NQK
