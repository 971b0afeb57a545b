"""A packed batch: the rows of all sequences end to end, with no padding between sequences."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from triform.engines import Integers, Spans
from triform.errors import InputError

Features = NDArray[np.float32]


class Source:
    """Human input of a sequence, kept with a batch so that answers can point back into the input.

    Each kind of input has a subclass: texts have `EncodedText`.
    """

    __slots__ = ()

    @property
    def whole(self) -> "Source":
        """The source of which this is a window, or this source."""
        return self


S = TypeVar("S", bound=Source)

NO_INTEGERS: Integers = np.zeros(0, np.int64)
NO_FEATURES: Features = np.zeros((0, 0), np.float32)


def _no_integers() -> Integers:
    return NO_INTEGERS


def _no_features() -> Features:
    return NO_FEATURES


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Batch:
    """Sequences packed end to end: T rows in all, B sequences, F feature vectors of C numbers.

    A row is one position of a sequence: a token, a patch of an image, a stretch of sound. Every array but `spans` is
    empty where the batch has no such values; the model's embedding checks that it finds the arrays that it reads.
    """

    spans: Spans
    """The rows of each of B sequences, end to end from row 0."""
    ids: Integers = field(default_factory=_no_integers)
    """(T,) the id of each row."""
    token_type_ids: Integers = field(default_factory=_no_integers)
    """(T,) the segment of each row; empty means 0 for all rows."""
    positions: Integers = field(default_factory=_no_integers)
    """(T,) the position of each row; empty means that positions count from 0 in each sequence."""
    features: Features = field(default_factory=_no_features)
    """(F, C) vectors that stand in place of ids, such as pixels of patches or frames of a spectrogram."""
    feature_rows: Integers = field(default_factory=_no_integers)
    """(F,) the row at which each feature vector stands, ascending; several vectors may stand at one row."""
    sources: tuple[Source, ...] = ()
    """(B,) the human input of each sequence; empty for a batch of bare ids."""

    @classmethod
    def from_ids(
        cls,
        sequences: Iterable[Sequence[int] | Integers],
        token_type_ids: Iterable[Sequence[int] | Integers] | None = None,
    ) -> "Batch":
        """Pack B sequences of ids: T ids in all, (T,).

        Arguments:
            sequences: B lists or arrays of ids, none empty.
            token_type_ids: lists or arrays of the same lengths; without them every token type is 0.

        Raises:
            InputError: no sequence, an empty sequence, ids that are not whole numbers, or lengths that differ.
        """
        rows = [_integers(ids, f"sequence {b}") for b, ids in enumerate(sequences)]
        if not rows:
            raise InputError("The batch is empty: expected at least one sequence of ids, got none.")
        lengths = [len(row) for row in rows]
        if 0 in lengths:
            raise InputError(
                f"Sequence {lengths.index(0)} is empty: expected at least one id. Leave it out of the batch."
            )
        batch = cls(spans=Spans.of_lengths(np.array(lengths)), ids=np.concatenate(rows))
        if token_type_ids is None:
            return batch
        types = [_integers(row, f"token_type_ids of sequence {b}") for b, row in enumerate(token_type_ids)]
        if (got := [len(row) for row in types]) != lengths:
            raise InputError(f"token_type_ids must have the lengths of the sequences: expected {lengths}, got {got}.")
        return replace(batch, token_type_ids=np.concatenate(types))

    @classmethod
    def concatenate(cls, batches: Sequence["Batch"]) -> "Batch":
        """Pack the sequences of several batches of one kind, in order."""
        if len(batches) == 1:
            return batches[0]
        first_rows = np.cumsum([0, *(batch.num_rows for batch in batches[:-1])])
        feature_rows = [batch.feature_rows + row for batch, row in zip(batches, first_rows, strict=True)]
        has_types = any(len(batch.token_type_ids) for batch in batches)
        has_positions = any(len(batch.positions) for batch in batches)
        return cls(
            spans=Spans.of_lengths(np.concatenate([batch.lengths for batch in batches])),
            ids=np.concatenate([batch.ids for batch in batches]),
            token_type_ids=np.concatenate([batch._token_types() for batch in batches]) if has_types else _no_integers(),
            positions=np.concatenate([batch._positions() for batch in batches]) if has_positions else _no_integers(),
            features=np.concatenate([batch.features for batch in batches]),
            feature_rows=np.concatenate(feature_rows),
            sources=tuple(source for batch in batches for source in batch.sources),
        )

    def _token_types(self) -> Integers:
        return self.token_type_ids if len(self.token_type_ids) else np.zeros(self.num_rows, np.int64)

    def _positions(self) -> Integers:
        return (
            self.positions if len(self.positions) else np.arange(self.num_rows) - self.spans.begins.repeat(self.lengths)
        )

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def num_rows(self) -> int:
        """The number of rows of all sequences, T."""
        return int(self.spans.ends[-1])

    @property
    def lengths(self) -> Integers:
        """(B,) rows of each sequence."""
        return self.spans.lengths

    @property
    def attention_mask(self) -> Integers:
        """Mask for people, (B, longest): 1 for a row, 0 for padding. No computation reads the mask."""
        return (np.arange(self.lengths.max()) < self.lengths[:, None]).astype(np.int64)

    def padded(self, values: Integers, fill: int = 0) -> Integers:
        """(T,) values of the rows as (B, longest), padded with `fill` on the right."""
        mask = self.attention_mask.astype(bool)
        out = np.full(mask.shape, fill, dtype=values.dtype)
        out[mask] = values
        return out

    def sources_of(self, kind: type[S]) -> tuple[S, ...]:
        """Get the B sources of a batch made of one kind of human input.

        Raises:
            InputError: the batch has other sources, or none.
        """
        found = tuple(source for source in self.sources if isinstance(source, kind))
        if len(found) != len(self):
            raise InputError(
                f"Expected a batch of {len(self)} sources of type {kind.__name__}, got {len(found)}. "
                "Make the batch with the task's preprocess."
            )
        return found

    def whole_borders(self) -> Integers:
        """(N + 1,) the first sequence of each of N whole sources, and the number of sequences.

        All windows of one text have one whole source; a sequence without a source counts by itself.
        """
        if not self.sources:
            return np.arange(len(self) + 1)
        wholes = [None, *(source.whole for source in self.sources)]
        firsts = [b for b, (before, whole) in enumerate(pairwise(wholes)) if whole is not before]
        return np.array([*firsts, len(self)])

    def split(self, token_budget: int, *, keep_whole: bool = False) -> Iterator["Batch"]:
        """Cut the batch into consecutive parts of at most `token_budget` rows; a longer sequence is a part by itself.

        With `keep_whole` all windows of one source stay in one part, however many rows they have.
        """
        if self.num_rows <= token_budget:
            yield self
            return
        borders = self.whole_borders() if keep_whole else np.arange(len(self) + 1)
        rows = np.append(self.spans.begins, self.num_rows)[borders]
        begin = 0
        while begin < len(borders) - 1:
            end = int(np.searchsorted(rows, rows[begin] + token_budget, side="right")) - 1
            end = max(end, begin + 1)
            yield self.slice(int(borders[begin]), int(borders[end]))
            begin = end

    def slice(self, begin: int, end: int) -> "Batch":
        """Take sequences `begin` up to `end`."""
        first, last = int(self.spans.begins[begin]), int(self.spans.ends[end - 1])
        held = slice(*np.searchsorted(self.feature_rows, [first, last]).tolist())
        return Batch(
            spans=Spans(self.spans.begins[begin:end] - first, self.spans.ends[begin:end] - first),
            ids=self.ids[first:last],
            token_type_ids=self.token_type_ids[first:last],
            positions=self.positions[first:last],
            features=self.features[held],
            feature_rows=self.feature_rows[held] - first,
            sources=self.sources[begin:end],
        )


def _integers(values: Sequence[int] | Integers, name: str) -> Integers:
    """A list of whole numbers as int64, (n,)."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name}: expected a list of ids, got {values!r}.") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{name}: expected a list of whole numbers, got {array.dtype} of shape {array.shape}.")
    return array.astype(np.int64)
