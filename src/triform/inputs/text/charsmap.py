"""Tables of characters in tokenizer.json, at which the library panics where they are damaged."""

import base64
import binascii
import re

import numpy as np

from triform.inputs.text.limits import MAX_REPLACEMENT

CHARSMAP = re.compile(rb'"precompiled_charsmap"\s*:\s*"([^"]*)"')


def check_charsmaps(content: bytes) -> None:
    """Check all tables of a tokenizer.json.

    Raises:
        ValueError: a table is damaged.
    """
    for table in CHARSMAP.findall(content):
        check_charsmap(table)


def check_charsmap(encoded: bytes) -> None:
    """Check a table of characters: a tree in an array, and the replacements to which its leaves point.

    https://github.com/google/sentencepiece/blob/master/src/normalizer.cc and
    https://github.com/s-yata/darts-clone have the format.
    """
    damaged = "precompiled_charsmap is damaged"
    try:
        table = base64.b64decode(encoded, validate=True)
        size = int.from_bytes(table[:4], "little")
        units = np.frombuffer(table, np.uint32, size // 4, offset=4)
        texts = table[4 + size :]
        texts.decode()
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"{damaged}: {error}") from error
    if not size or size % 4:
        raise ValueError(f"{damaged}: its tree has {size} bytes, no multiple of 4")
    places = np.arange(len(units), dtype=np.int64)
    inner = units < 2**31
    inner[0] = True  # the root
    children = places ^ ((units.astype(np.int64) >> 10) << ((units & 512) >> 6))
    if (children[inner] | 255).max() >= len(units):
        raise ValueError(f"{damaged}: its tree points outside itself")
    leaves = units[children[inner & (units & 256 > 0)]] & (2**31 - 1)
    letters = np.frombuffer(texts + b"\0", np.uint8)
    if len(leaves) and (leaves.max() >= len(letters) or (letters[leaves] & 0xC0 == 0x80).any()):
        raise ValueError(f"{damaged}: its tree points outside the replacements")
    longest = np.diff(np.flatnonzero(letters == 0), prepend=-1).max() - 1
    if longest > MAX_REPLACEMENT:
        raise ValueError(f"{damaged}: a replacement of {longest} bytes is longer than the {MAX_REPLACEMENT} allowed")
