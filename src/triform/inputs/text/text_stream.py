"""Ids one at a time → text as soon as it is certain: no half character, and no repetition."""

from triform.inputs.text.token_bytes import spelled_byte
from triform.inputs.text.tokenizer import Tokenizer

HALF = "\ufffd"
"""The decoded text of an incomplete character."""
MOST, LEAST = 32, 8
"""A window is cut back to its last `LEAST` ids when it has `MOST`."""


class TextStream:
    """Decodes the ids of one sequence piece by piece; all pieces joined equal `Tokenizer.decode` of all ids
    without clean-up, since a clean-up may change a text that has been returned.

    No token is decoded alone: a token may decode differently at the beginning of a text (SentencePiece drops the first
    space), or need the tokens that follow (the bytes of 猫). The stream decodes a window of the latest ids.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._window: list[int] = []
        self._said = 0
        """Characters of the window's text that have been returned."""

    def add(self, id: int) -> str:
        """Add an id, and return the text that has become certain; it may be empty."""
        token = self._tokenizer.token_of(id)
        if token is None or (self._skip and token in self._tokenizer.special_tokens):
            return ""  # its neighbours decode as if it were not there
        self._window.append(id)
        if spelled_byte(token) is not None:
            return ""  # the next byte may still make the whole run invalid
        text = self._decode(self._window)
        whole = not text.endswith(HALF)
        piece = self._give(text if whole else text[:-1])
        if whole and len(self._window) >= MOST:
            self._cut_back(text)
        return piece

    def finish(self) -> str:
        """Return the rest of the text, with incomplete characters as U+FFFD."""
        return self._give(self._decode(self._window))

    def _give(self, text: str) -> str:
        piece, self._said = text[self._said :], max(self._said, len(text))
        return piece

    def _cut_back(self, text: str) -> None:
        """Drop the beginning of the window, if the rest decodes to the same letters without it."""
        kept = self._window[-LEAST:]
        short = self._decode(kept)
        if short.strip() and text.endswith(short.strip()):
            self._window, self._said = kept, len(short)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip, clean_up=False)
