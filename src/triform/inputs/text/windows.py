"""Overlapping windows of a text too long for the model. Characters still count in the whole text."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from triform.engines import Integers
from triform.errors import InputError
from triform.inputs.batch import Batch
from triform.inputs.text.encoded_text import EncodedText, Window

OVERLAP = 128
"""Tokens that neighbouring windows share by default, or half a window where that is less."""


def cut_into_windows(text: EncodedText, *, max_length: int | None, overlap: int | None = None) -> list[EncodedText]:
    """Cut a text, or the second text of a pair, into overlapping windows; every window repeats the tokens around it.

    Each token is in the share of one window: where two overlap, each answers for the half that is further from its own
    edge. The tokens before the text belong to the first window, the tokens after it to the last.

    Arguments:
        text: encoded whole, with its special tokens.
        max_length: the most tokens of a window, all included; None for no limit.
        overlap: how many tokens of the text each window shares with the one before; by default `OVERLAP`.

    Returns:
        The text alone where it fits; else windows in the order of the text.

    Raises:
        InputError: the tokens around the text leave no room for it, or the overlap fills that room.
    """
    if max_length is None or len(text.ids) <= max_length:
        return [text]
    sequence = 0 if text.pair is None else 1
    rows = np.flatnonzero([found == sequence for found in text.sequence_ids])
    begin, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    num_others = len(text.ids) - (end - begin)
    room = max_length - num_others
    if room < 1:
        raise InputError(
            f"{num_others} tokens stand beside the text, so that a window of {max_length} tokens has no room for it. "
            f"Shorten what stands before it: {text.text[:60]!r}."
        )
    overlap = min(OVERLAP, room // 2) if overlap is None else overlap
    if overlap >= room:
        raise InputError(
            f"An overlap of {overlap} tokens fills the {room} tokens that a window has room for. Lower it."
        )
    starts = range(begin, end - overlap, room - overlap)
    # One window's share ends and the next one's begins in the middle of their overlap.
    borders = [0, *(start + (overlap + 1) // 2 for start in starts[1:]), len(text.ids)]
    windows = []
    for start, first, last in zip(starts, borders[:-1], borders[1:], strict=True):
        rows = np.r_[0:begin, start : min(start + room, end), end : len(text.ids)]
        windows.append(_window(text, rows, *np.searchsorted(rows, [first, last]).tolist()))
    return windows


def merge_windows(batch: Batch, rows: NDArray[np.floating]) -> Iterator[tuple[EncodedText, NDArray[np.floating]]]:
    """Yield whole texts, each with an array of shape (n, …): the rows of its tokens, from the responsible windows.

    Arguments:
        batch: texts, and all windows of each text that was cut.
        rows: (T, …) one for each token of the batch.

    Yields:
        A whole text and its rows, (n, …).
    """
    shares = rows[shares_of(batch)]
    begin = 0
    for text in whole_texts(batch):
        end = begin + len(text.ids)
        yield text, shares[begin:end]
        begin = end


def shares_of(batch: Batch) -> NDArray[np.bool_]:
    """Mark the rows for which their window answers, (T,); every row of a text that was not cut is marked."""
    return np.concatenate([_share(text) for text in batch.sources_of(EncodedText)])


def whole_texts(batch: Batch) -> list[EncodedText]:
    """List the texts of a batch; the windows of one text count as that text."""
    return list(dict.fromkeys(text.whole for text in batch.sources_of(EncodedText)))


def _share(text: EncodedText) -> NDArray[np.bool_]:
    rows = np.arange(len(text.ids))
    return rows >= 0 if text.window is None else (text.window.begin <= rows) & (rows < text.window.end)


def _window(text: EncodedText, rows: Integers, begin: int, end: int) -> EncodedText:
    return replace(
        text,
        ids=text.ids[rows],
        token_type_ids=text.token_type_ids[rows],
        tokens=tuple(text.tokens[row] for row in rows),
        characters=text.characters[rows],
        sequence_ids=tuple(text.sequence_ids[row] for row in rows),
        words=None if text.words is None else tuple(text.words[row] for row in rows),
        window=Window(whole=text, begin=begin, end=end),
    )
