"""A text too long for the model, read in windows that overlap. Characters still count in the whole text."""

from dataclasses import replace

import numpy as np

from triform.engines import Integers
from triform.errors import InputError
from triform.inputs.batch import EncodedText

OVERLAP = 128
"""Tokens that neighbours share where nothing else is said, or half a window where that is less."""


def cut_into_windows(text: EncodedText, *, max_length: int | None, overlap: int | None = None) -> list[EncodedText]:
    """Cut a text, of a pair the second, into overlapping windows; what stands before and after it goes into each.

    Arguments:
        text: encoded whole, with its special tokens.
        max_length: the most tokens of a window, all included; None for no limit.
        overlap: how many tokens of the text each window shares with the one before; by default `OVERLAP`.

    Raises:
        InputError: nothing to cut, no room for it beside the rest, or an overlap as wide as that room.
    """
    source = 0 if text.pair is None else 1
    rows = np.flatnonzero([found == source for found in text.sources])
    if not len(rows):
        raise InputError(f"The text has no token: {text.text if text.pair is None else text.pair!r}. Leave it out.")
    if max_length is None or len(text.ids) <= max_length:
        return [text]
    begin, end = int(rows[0]), int(rows[-1]) + 1
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
    return [_window(text, np.r_[0:begin, start : min(start + room, end), end : len(text.ids)]) for start in starts]


def _window(text: EncodedText, rows: Integers) -> EncodedText:
    return replace(
        text,
        ids=text.ids[rows],
        segment_ids=text.segment_ids[rows],
        tokens=tuple(text.tokens[row] for row in rows),
        characters=text.characters[rows],
        sources=tuple(text.sources[row] for row in rows),
    )
