"""A packed batch: the tokens of all its sequences end to end, with no padding between them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from typing import Any

import numpy as np

from triform.engines import Integers, Spans
from triform.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class EncodedText:
    """A text, or a pair of texts, beside its tokens, so that answers can point back into it. n tokens."""

    text: str
    pair: str | None
    ids: Integers
    """(n,)"""
    segment_ids: Integers
    """(n,) 0 for the first text and 1 for its pair, as the tokenizer's template says (`token_type_ids`)."""
    tokens: tuple[str, ...]
    """(n,) as the vocabulary writes them."""
    characters: Integers
    """(n, 2) where each token begins and ends in its own text, in characters; (0, 0) for a special token."""
    sources: tuple[int | None, ...]
    """(n,) 0 for a token of `text`, 1 for one of `pair`, None for a special token."""
    words: tuple[int | None, ...] | None = None
    """(n,) the number of each token's word in its own text, as the tokenizer parts words; None for a special token."""
    dropped: int = 0
    """Tokens cut off to fit the model."""
    messages: tuple[Mapping[str, Any], ...] | None = None
    """The conversation that `text` was made of, where it was one."""
    window: "Window | None" = None
    """Where this is a window of a longer text, what it stands for."""

    @property
    def whole(self) -> "EncodedText":
        """The text that this is a window of, or itself."""
        return self if self.window is None else self.window.whole


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Window:
    """Which tokens of a long text one of its overlapping windows answers for: each token is in one window's share."""

    whole: EncodedText
    """The text that was cut, with its special tokens."""
    begin: int
    """The first row of the window that it answers for."""
    end: int
    """One beyond the last such row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Sequences packed end to end. T tokens in all, B sequences; positions count from 0 in each."""

    ids: Integers
    """(T,)"""
    offsets: Integers
    """(B + 1,) sequence b is rows offsets[b] up to offsets[b + 1]."""
    segment_ids: Integers
    """(T,)"""
    texts: tuple[EncodedText, ...] | None = None
    """(B,) what the person wrote, where the batch comes from text."""

    @classmethod
    def from_ids(
        cls, sequences: Iterable[Sequence[int]], segment_ids: Iterable[Sequence[int]] | None = None
    ) -> "Batch":
        """Pack lists of ids, and lists of segment ids of the same lengths (all 0 without them).

        Raises:
            InputError: no sequence, an empty one, ids that are no whole numbers, or lengths that differ.
        """
        rows = [_integers(ids, f"sequence {b}") for b, ids in enumerate(sequences)]
        if not rows:
            raise InputError("The batch is empty: expected at least one sequence of ids, got none.")
        for b, row in enumerate(rows):
            if not len(row):
                raise InputError(f"Sequence {b} is empty: expected at least one id. Leave it out of the batch.")
        ids = np.concatenate(rows)
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        if segment_ids is None:
            return cls(ids=ids, offsets=offsets, segment_ids=np.zeros_like(ids))
        segments = [_integers(row, f"segment_ids of sequence {b}") for b, row in enumerate(segment_ids)]
        got, expected = [len(row) for row in segments], [len(row) for row in rows]
        if got != expected:
            raise InputError(f"segment_ids must have the lengths of the sequences: expected {expected}, got {got}.")
        return cls(ids=ids, offsets=offsets, segment_ids=np.concatenate(segments))

    @classmethod
    def from_texts(cls, texts: Sequence[EncodedText]) -> "Batch":
        """Pack texts that a tokenizer has encoded."""
        batch = cls.from_ids([text.ids.tolist() for text in texts], [text.segment_ids.tolist() for text in texts])
        return cls(ids=batch.ids, offsets=batch.offsets, segment_ids=batch.segment_ids, texts=tuple(texts))

    @classmethod
    def from_rows(cls, rows: Sequence[list[int]]) -> "Batch":
        """Pack lists of ids that are known to be sound, as those of a decoding step."""
        ids = np.array(list(chain.from_iterable(rows)), np.int64)
        offsets = np.array([0, *accumulate(map(len, rows))])
        return cls(ids=ids, offsets=offsets, segment_ids=np.zeros(len(ids), np.int64))

    @classmethod
    def concatenate(cls, batches: Sequence["Batch"]) -> "Batch":
        """Pack the sequences of several batches, in order."""
        lengths = np.concatenate([batch.lengths for batch in batches])
        return cls(
            ids=np.concatenate([batch.ids for batch in batches]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            segment_ids=np.concatenate([batch.segment_ids for batch in batches]),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def spans(self) -> Spans:
        """Which rows belong to which sequence."""
        return Spans(self.offsets[:-1], self.offsets[1:])

    @property
    def lengths(self) -> Integers:
        """(B,) tokens of each sequence."""
        return self.spans.lengths

    @cached_property
    def positions(self) -> Integers:
        """(T,) each token's place in its sequence, from 0."""
        return np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], self.lengths)

    @property
    def attention_mask(self) -> Integers:
        """(B, longest) 1 for a token, 0 for the padding that the computation never sees: a view for people."""
        return (np.arange(self.lengths.max()) < self.lengths[:, None]).astype(np.int64)

    def padded(self, values: Integers, fill: int = 0) -> Integers:
        """(T,) values of the tokens as (B, longest), filled up on the right."""
        mask = self.attention_mask.astype(bool)
        out = np.full(mask.shape, fill, dtype=values.dtype)
        out[mask] = values
        return out

    def split(self, token_budget: int, *, whole_texts: bool = False) -> Iterator["Batch"]:
        """Consecutive parts of at most `token_budget` tokens each; a longer sequence is a part of its own.

        With `whole_texts` all windows of a text stay in one part, however many tokens they have.
        """
        borders = self._borders() if whole_texts else np.arange(len(self) + 1)
        offsets = self.offsets[borders]
        begin = 0
        while begin < len(borders) - 1:
            end = int(np.searchsorted(offsets, offsets[begin] + token_budget, side="right")) - 1
            end = max(end, begin + 1)
            yield self.slice(int(borders[begin]), int(borders[end]))
            begin = end

    def whole_texts(self) -> list[EncodedText]:
        """The texts, and of those that were cut into windows the whole."""
        assert self.texts is not None
        return list(dict.fromkeys(text.whole for text in self.texts))

    def _borders(self) -> Integers:
        """The number of the first sequence of each text, and one beyond the last."""
        assert self.texts is not None
        firsts = [b for b, text in enumerate(self.texts) if b == 0 or text.whole is not self.texts[b - 1].whole]
        return np.array([*firsts, len(self)])

    def slice(self, begin: int, end: int) -> "Batch":
        """Sequences `begin` up to `end`."""
        rows = slice(int(self.offsets[begin]), int(self.offsets[end]))
        return Batch(
            ids=self.ids[rows],
            offsets=self.offsets[begin : end + 1] - self.offsets[begin],
            segment_ids=self.segment_ids[rows],
            texts=None if self.texts is None else self.texts[begin:end],
        )


def _integers(values: Sequence[int], what: str) -> Integers:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{what}: expected a list of ids, got {values!r}.") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{what}: expected a list of whole numbers, got {array.dtype} of shape {array.shape}.")
    return array.astype(np.int64)
