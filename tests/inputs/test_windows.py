"""Windows of a long text: complete, in order, with the surrounding tokens in each window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.errors import InputError
from triform.inputs import EncodedText, cut_into_windows

NUM_OTHERS = 5


def pair(length: int) -> EncodedText:
    """Return [CLS] two tokens [SEP] `length` tokens [SEP], with each position as id."""
    sequence_ids = [None, 0, 0, None, *[1] * length, None]
    ids = np.arange(len(sequence_ids))
    characters = np.stack([ids, ids + 1], axis=-1)
    return EncodedText(
        text="a b",
        pair="c" * length,
        ids=ids,
        token_type_ids=(ids > 3).astype(np.int64),
        tokens=tuple(map(str, ids)),
        characters=characters,
        sequence_ids=tuple(sequence_ids),
    )


@given(st.integers(1, 80), st.integers(1, 30), st.data())
def test_windows_hold_all_of_the_text_and_share_the_overlap(length: int, room: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, room - 1))
    text = pair(length)
    windows = cut_into_windows(text, max_length=room + NUM_OTHERS, overlap=overlap)
    seen: list[int] = []
    for window in windows:
        ids = window.ids.tolist()
        assert len(ids) <= room + NUM_OTHERS
        assert ids[:4] == [0, 1, 2, 3]
        assert ids[-1] == length + 4
        assert window.tokens == tuple(map(str, ids))
        assert window.sequence_ids == tuple(text.sequence_ids[row] for row in ids)
        assert window.characters[:, 0].tolist() == ids
        assert window.token_type_ids.tolist() == [int(row > 3) for row in ids]
        own = ids[4:-1]
        if seen:
            assert own[:overlap] == seen[len(seen) - overlap :]
            assert len(own) > overlap
        seen += own[overlap:] if seen else own
    assert seen == list(range(4, length + 4))
    assert all(len(window.ids) == room + NUM_OTHERS for window in windows[:-1])
    shares = [window.ids[window.window.begin : window.window.end] for window in windows if window.window]
    if len(windows) > 1:
        assert np.concatenate(shares).tolist() == text.ids.tolist()
    for token in text.ids[4:-1].tolist():
        depths = [depth(window.ids[4:-1].tolist(), token, last=length + 3) for window in windows]
        chosen = [token in share for share in shares].index(True) if shares else 0
        assert depths[chosen] == max(depths)


def depth(ids: list[int], token: int, *, last: int) -> float:
    """Return the distance from a token to the nearest inner edge of a window; -1 outside the window."""
    if token not in ids:
        return -1
    left = token - ids[0] if ids[0] > 4 else np.inf
    right = ids[-1] - token if ids[-1] < last else np.inf
    return float(min(left, right))


def test_what_fits_is_one_window() -> None:
    text = pair(10)
    assert cut_into_windows(text, max_length=15, overlap=12) == [text]
    assert cut_into_windows(text, max_length=None) == [text]


def test_half_of_a_narrow_window_overlaps() -> None:
    windows = cut_into_windows(pair(20), max_length=NUM_OTHERS + 10)
    assert [window.ids[4] for window in windows] == [4, 9, 14]


def test_windows_need_room() -> None:
    with pytest.raises(InputError, match="5 tokens stand beside the text, so that a window of 5 tokens has no room"):
        cut_into_windows(pair(3), max_length=NUM_OTHERS)
    with pytest.raises(InputError, match="overlap of 2 tokens fills the 2 tokens that a window has room for"):
        cut_into_windows(pair(3), max_length=NUM_OTHERS + 2, overlap=2)
    with pytest.raises(InputError, match="5 tokens stand beside the text, so that a window of 4 tokens has no room"):
        cut_into_windows(pair(0), max_length=NUM_OTHERS - 1)
