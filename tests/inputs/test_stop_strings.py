"""Text up to a stop string: the same for every cut into pieces, and never a part of a stop string."""

import random

import pytest

from triform.inputs import StoppedText

STOPS = [["STOP"], ["aab", "ba"], ["\n\n", "###", "ü🐈"]]


def read(stops: list[str], pieces: list[str]) -> tuple[list[str], str | None]:
    """Read pieces to the end."""
    text = StoppedText(stops)
    given = [text.add(piece) for piece in pieces]
    if text.stop is None:
        given.append(text.finish())
    return given, text.stop


@pytest.mark.parametrize("stops", STOPS)
def test_pieces_join_to_the_text_before_the_stop_string(stops: list[str]) -> None:
    chosen = random.Random(1)
    letters = "".join(stops) + "xy"
    for _ in range(300):
        pieces = ["".join(chosen.choices(letters, k=chosen.randint(0, 3))) for _ in range(chosen.randint(1, 15))]
        whole = "".join(pieces)
        given, stop = read(stops, pieces)
        joined = "".join(given)
        assert whole.startswith(joined)
        assert not any(each in joined for each in stops)
        if stop is None:
            assert joined == whole
        else:
            assert whole.startswith(joined + stop)


def test_text_that_begins_no_stop_string_is_given_out_at_once() -> None:
    text = StoppedText(["STOP"])
    assert [text.add(piece) for piece in ("abcS", "T", "x", "STO")] == ["abc", "", "STx", ""]
    assert text.finish() == "STO"


def test_without_stop_strings_nothing_is_held_back() -> None:
    text = StoppedText([])
    assert [text.add("a"), text.finish()] == ["a", ""]
