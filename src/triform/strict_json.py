"""JSON as its standard has it, of files that may be damaged: what Python's reader lets pass is an error."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 64 * 2**20
"""No JSON file that is read here is larger; the vocabularies of large models have half of it."""
MAX_WEIGHT = 2_000_000
"""Most values in a file, an object counted as four, since it takes as much memory as four others. The largest published
tokenizers have half as many."""


def read(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
        FileNotFoundError: the file does not exist, or is a folder, a pipe or a device.
        ValueError: it is too large to be one, no UTF-8, or what `loads` refuses.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes are more than the {MAX_BYTES:,} that such a file can need")
    return loads(path.read_bytes())


def loads(content: bytes) -> Any:
    """The value that a JSON document in UTF-8 holds.

    Raises:
        ValueError: no JSON; a key said twice in one object; NaN, infinity or a number beyond float64; half of a pair
            of surrogates; more brackets within brackets than can be followed; or more values than `MAX_WEIGHT`.
    """
    # Before a value is made: brackets of 3 bytes become objects of more than 200. Commas within texts count as well.
    if content.count(b",") + content.count(b"[") + 4 * content.count(b"{") > MAX_WEIGHT:
        raise ValueError("it holds more values than such a file can need")
    text = content.decode()
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_number)
    except RecursionError as error:
        raise ValueError("brackets are nested too deeply") from error
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:100]!r} stands twice in one object")
            seen.add(key)
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:100]} is beyond the range of numbers")
    return number
