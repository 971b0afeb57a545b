"""Bytes that a token adds to a text, for grammars, which read bytes.

A token is taken as it is written inside a text: the first token of a text may lose its space.
"""

import re
from collections.abc import Callable
from functools import cache

BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""The spelling of a byte in vocabularies with byte fallback."""
NEIGHBOUR = "a"
"""A token before and behind the token in question."""

Join = Callable[[list[str]], str]
"""Tokens in the spelling of the vocabulary → text."""


def spelled_byte(token: str) -> bytes | None:
    """Return the byte that a token such as <0x0A> stands for, or None."""
    found = BYTE.fullmatch(token)
    return None if found is None else bytes([int(found[1], 16)])


def byte_level(token: str) -> bytes:
    """Return the bytes of a token of byte-level BPE, whose letters stand for bytes; other letters are text."""
    values = _bytes_of_letters()
    if all(letter in values for letter in token):
        return bytes(values[letter] for letter in token)
    return token.encode()


@cache
def _bytes_of_letters() -> dict[str, int]:
    """Map the letters of byte-level BPE to bytes: printable bytes stand for themselves. Radford et al. 2019."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


def inside_text(join: Join) -> Callable[[str], bytes | None]:
    """Make a function from a token to its bytes between two others; None where these change beside the token."""
    before = join([NEIGHBOUR])
    after = join([NEIGHBOUR, NEIGHBOUR])[len(before) :]

    def bytes_of(token: str) -> bytes | None:
        text = join([NEIGHBOUR, token, NEIGHBOUR])
        if len(text) < len(before) + len(after) or not (text.startswith(before) and text.endswith(after)):
            return None
        return text[len(before) : len(text) - len(after)].encode()

    return bytes_of
