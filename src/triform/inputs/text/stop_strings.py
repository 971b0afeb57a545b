"""Text piece by piece up to the first of some stop strings. Knows nothing of tokens."""

from collections.abc import Sequence


class StoppedText:
    """Text that ends before the first stop string in it.

    A piece is given out once no stop string can begin in it, so a reader never sees a part of one. All pieces joined
    are the text before the stop string, whatever the cut into pieces was, if no stop string lies within another.

    Arguments:
        stops: the stop strings, none empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stop: str | None = None
        """The stop string that has ended the text."""
        self._stops = stops
        self._held = ""
        """The end of the text so far, which may be the beginning of a stop string."""

    def add(self, piece: str) -> str:
        """Add a piece, and return the text that has become certain; it may be empty."""
        if self.stop is not None or not self._stops:
            return "" if self.stop is not None else piece
        text = self._held + piece
        found = [(place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            place, self.stop = min(found)
            self._held = ""
            return text[:place]
        held = self._num_held(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """Return the rest of the text: no stop string has come."""
        rest, self._held = self._held, ""
        return rest

    def _num_held(self, text: str) -> int:
        """Count the characters at the end of a text that begin a stop string."""
        longest = min(max(map(len, self._stops)) - 1, len(text))
        for length in range(longest, 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
