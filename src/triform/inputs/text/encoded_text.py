"""Encoded text: the source of a batch of tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triform.engines import Integers
from triform.inputs.batch import Batch, Source


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class EncodedText(Source):
    """A text, or a pair of texts, and its n tokens, so that answers can point back into the text."""

    text: str
    pair: str | None
    ids: Integers
    """(n,)"""
    token_type_ids: Integers
    """(n,) 0 for the first text and 1 for its pair, as the tokenizer's template says."""
    tokens: tuple[str, ...]
    """(n,) as the vocabulary writes them."""
    characters: Integers
    """(n, 2) begin and end of each token in its own text, in characters; (0, 0) for a special token."""
    sequence_ids: tuple[int | None, ...]
    """(n,) 0 for a token of `text`, 1 for a token of `pair`, None for a special token."""
    words: tuple[int | None, ...] | None = None
    """(n,) the number of each token's word in its own text, as the tokenizer splits words; None for a special token."""
    dropped: int = 0
    """Tokens cut off to fit the model."""
    messages: tuple[Mapping[str, Any], ...] | None = None
    """The conversation that a chat template rendered to `text`; None for a plain text."""
    window: "Window | None" = None
    """The share of a longer text that this window answers for; None for a text that was not cut into windows."""

    @property
    def whole(self) -> "EncodedText":
        """The text of which this is a window, or this text."""
        return self if self.window is None else self.window.whole


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Window:
    """The share of a long text that one of its overlapping windows answers for; shares do not overlap."""

    whole: EncodedText
    """The text that was cut, with its special tokens."""
    begin: int
    """The first row of the window in its share."""
    end: int
    """One past the last such row."""


def pack_texts(texts: Sequence[EncodedText]) -> Batch:
    """Pack encoded texts into a batch, one sequence for each text.

    Raises:
        InputError: the list is empty, or a text has no token.
    """
    batch = Batch.from_ids([text.ids for text in texts], [text.token_type_ids for text in texts])
    return replace(batch, sources=tuple(texts))
