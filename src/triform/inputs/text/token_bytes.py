"""The bytes of a token: a token may be a part of a character, which no text can hold."""

from functools import cache

from triform.inputs.text.text_stream import BYTE, HALF
from triform.inputs.text.tokenizer import Tokenizer

SPACE = "\u2581"
"""The letter that SentencePiece writes for a space."""


def token_bytes(tokenizer: Tokenizer, id: int) -> bytes:
    """Return the bytes of a token; none for an id without a token."""
    token = tokenizer.token_of(id)
    if token is None:
        return b""
    if BYTE.fullmatch(token):
        return bytes([int(token[3:5], 16)])
    text = tokenizer.decode([id], skip_special_tokens=False, clean_up=False)
    if HALF not in text:
        # Decoded alone, a token loses its space.
        return (" " * (token.startswith(SPACE) and not text.startswith(" ")) + text).encode()
    letters = byte_letters()
    if all(letter in letters for letter in token):
        return bytes(letters[letter] for letter in token)
    return text.encode()


@cache
def byte_letters() -> dict[str, int]:
    """Return the letters by which byte-level BPE writes bytes. Radford et al. 2019; visible ones stand for themselves.

    The others are counted up from U+0100.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + number): byte for number, byte in enumerate(hidden)}
