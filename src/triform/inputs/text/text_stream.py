"""Ids one at a time → text as it becomes certain: no half character, and nothing said twice."""

import re

from triform.inputs.text.tokenizer import Tokenizer

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A token that stands for one byte, as vocabularies that fall back on bytes write it."""
HALF = "\ufffd"
"""What half a character is decoded as, until its other bytes have come."""
MOST, LEAST = 32, 8
"""A window is cut back to its last `LEAST` ids when it has `MOST`."""


class TextStream:
    """The text of one sequence. All pieces and the rest, put together, are what `Tokenizer.decode` makes of all ids.

    A token may be written otherwise at the beginning than behind others (SentencePiece drops the first space), and may
    need those that follow (the bytes of 猫), so none is decoded alone. What is decoded is a window: the latest ids and
    enough of those before.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._window: list[int] = []
        self._said = 0
        """Characters of the window's text that have been given out."""

    def add(self, id: int) -> str:
        """The text that is certain now and was not before; often that of the token, sometimes none."""
        token = self._tokenizer.token_of(id)
        if token is None or (self._skip and token in self._tokenizer.special_tokens):
            return ""  # what is next to it does not see it
        self._window.append(id)
        if BYTE.fullmatch(token):
            return ""  # one more byte may still make the whole run of them invalid
        text = self._decode(self._window)
        whole = not text.endswith(HALF)
        piece = self._give(text if whole else text[:-1])
        if whole and len(self._window) >= MOST:
            self._cut_back(text)
        return piece

    def finish(self) -> str:
        """What is left, when no id follows: half characters included, as U+FFFD."""
        return self._give(self._decode(self._window))

    def _give(self, text: str) -> str:
        piece, self._said = text[self._said :], max(self._said, len(text))
        return piece

    def _cut_back(self, text: str) -> None:
        """Forget the window's beginning, if what is kept has letters to bear what decoders do to a beginning."""
        kept = self._window[-LEAST:]
        short = self._decode(kept)
        if short.strip() and text.endswith(short.strip()):
            self._window, self._said = kept, len(short)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip)
