"""A text too long for the model, read in windows that overlap. Characters still count in the whole text."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from triform.engines import Integers
from triform.errors import InputError
from triform.inputs.batch import Batch, EncodedText, Window

OVERLAP = 128
"""Tokens that neighbours share where nothing else is said, or half a window where that is less."""


def cut_into_windows(text: EncodedText, *, max_length: int | None, overlap: int | None = None) -> list[EncodedText]:
    """Cut a text, of a pair the second, into overlapping windows; what stands before and after it goes into each.

    Each token is in the share of one window: where two overlap, each answers for the half that is further from its own
    edge. What stands before the text is the first window's, what stands after it the last one's.

    Arguments:
        text: encoded whole, with its special tokens.
        max_length: the most tokens of a window, all included; None for no limit.
        overlap: how many tokens of the text each window shares with the one before; by default `OVERLAP`.

    Returns:
        The text alone where it fits; else windows in the order of the text.

    Raises:
        InputError: no room for the text beside the rest, or an overlap as wide as that room.
    """
    if max_length is None or len(text.ids) <= max_length:
        return [text]
    source = 0 if text.pair is None else 1
    rows = np.flatnonzero([found == source for found in text.sources])
    begin, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    num_others = len(text.ids) - (end - begin)
    room = max_length - num_others
    if room < 1:
        raise InputError(
            f"{num_others} tokens stand beside the text, so that {max_length} leave no room for it. "
            f"Shorten what stands before it: {text.text[:60]!r}."
        )
    overlap = min(OVERLAP, room // 2) if overlap is None else overlap
    if overlap >= room:
        raise InputError(f"The overlap of {overlap} tokens is no less than the {room} that a window has room for.")
    starts = range(begin, end - overlap, room - overlap)
    # Where one window's share ends and the next one's begins: the middle of what they have in common.
    borders = [0, *(start + (overlap + 1) // 2 for start in starts[1:]), len(text.ids)]
    windows = []
    for start, first, last in zip(starts, borders[:-1], borders[1:], strict=True):
        rows = np.r_[0:begin, start : min(start + room, end), end : len(text.ids)]
        windows.append(_window(text, rows, *np.searchsorted(rows, [first, last]).tolist()))
    return windows


def merge_windows(batch: Batch, rows: NDArray[np.floating]) -> Iterator[tuple[EncodedText, NDArray[np.floating]]]:
    """Every whole text of a batch, with the row of each of its tokens from the window in whose share it is.

    Arguments:
        batch: of texts, and all windows of those that were cut.
        rows: (T, …) one for each token of the batch.
    """
    shares = rows[shares_of(batch)]
    begin = 0
    for text in batch.whole_texts():
        end = begin + len(text.ids)
        yield text, shares[begin:end]
        begin = end


def shares_of(batch: Batch) -> NDArray[np.bool_]:
    """(T,) whether each row is in its window's share; all rows are of a text that was not cut."""
    assert batch.texts is not None
    return np.concatenate([_share(text) for text in batch.texts])


def _share(text: EncodedText) -> NDArray[np.bool_]:
    rows = np.arange(len(text.ids))
    return rows >= 0 if text.window is None else (text.window.begin <= rows) & (rows < text.window.end)


def _window(text: EncodedText, rows: Integers, begin: int, end: int) -> EncodedText:
    return replace(
        text,
        ids=text.ids[rows],
        segment_ids=text.segment_ids[rows],
        tokens=tuple(text.tokens[row] for row in rows),
        characters=text.characters[rows],
        sources=tuple(text.sources[row] for row in rows),
        words=None if text.words is None else tuple(text.words[row] for row in rows),
        window=Window(whole=text, begin=begin, end=end),
    )
