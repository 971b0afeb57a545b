"""Hypothesis strategies for damaged files: each takes the bytes of a sound file, and draws damaged bytes."""

import json
import re
import struct
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEPTH = 100_000

VALUES = (
    *("null", "true", "false", "0", "-1", "1", "2", "7", "0.5", "-0.0", "1e-300", "1e300", "1e999", "-1e999"),
    *("NaN", "Infinity", "-Infinity", str(2**31), str(2**63), str(10**12), str(10**30), "-" + "9" * 30, "9" * 5000),
    *('""', '"x"', '"\\u0000"', '"\\ud800"', '"../x"', '"/"', '"' + "long " * 50_000 + '"'),
    *("[]", "[null]", "[0]", '["x"]', "[[0]]", "{}", '{"x": 0}', '{"0": null}', '{"content": 7}'),
    *("[" * DEPTH + "]" * DEPTH, '{"x":' * DEPTH + "0" + "}" * DEPTH),
)
"""Replacements of a value, as JSON or as invalid text."""

PIECES = (*(bytes([code]) for code in b'\x00\xff\n"{}[,'), b"\xef\xbb\xbf", b"\x7f" * 9, b"\xff" * 9, b" " * 9)

Path = tuple[str | int, ...]


def places(content: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the paths to all values of a JSON document; of a long list or object, only to both ends."""
    yield path
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    for key in keys if len(keys) < 100 else [*keys[:5], *keys[-5:]]:
        yield from places(content[key], (*path, key))


@st.composite
def damaged_json(draw: st.DrawFn, raw: bytes) -> bytes:
    """Draw a document with one to three values replaced, removed, duplicated or renamed."""
    content = json.loads(raw)
    raws: dict[str, str] = {}
    for number in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(content))))
        placeholder = f"@{number}@"
        value = draw(st.sampled_from(VALUES))
        if not path:
            if draw(st.booleans()):
                return value.encode("utf-8", "surrogatepass")
            continue
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        last = path[-1]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "twice", "rename"])):
            case "remove":
                del parent[last]
            case "twice" if isinstance(last, str):
                parent[placeholder] = parent[last] if draw(st.booleans()) else placeholder
                raws[placeholder] = value
                raws[f"{placeholder}:"] = json.dumps(last)
            case "rename" if isinstance(last, str):
                parent[draw(st.sampled_from(["x", "", last + " ", last.upper()]))] = parent.pop(last)
            case _:
                parent[last] = placeholder
                raws[placeholder] = value
    text = json.dumps(content, ensure_ascii=False)
    for placeholder, value in raws.items():
        is_key = placeholder.endswith(":")
        text = text.replace(json.dumps(placeholder.removesuffix(":")) + ":" * is_key, value + ":" * is_key)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def damaged_bytes(draw: st.DrawFn, raw: bytes) -> bytes:
    """Draw truncated bytes, or bytes with one to three places overwritten, removed, repeated or interrupted."""
    out = bytearray(raw)
    # Damage in a header has the most effects.
    place = st.integers(0, max(0, len(raw) - 1)) | st.integers(0, min(64, max(0, len(raw) - 1)))
    if draw(st.integers(0, 4)) == 0:
        return raw[: draw(place)]
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(place), draw(st.integers(1, 9))
        match draw(st.sampled_from(["flip", "random", "remove", "repeat", "insert"])):
            case "flip" if at < len(out):
                out[at] ^= 1 << draw(st.integers(0, 7))
            case "random":
                out[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "remove":
                del out[at : at + length]
            case "repeat":
                out[at:at] = out[at : at + length * 9]
            case _:
                out[at:at] = draw(st.sampled_from(PIECES))
    return bytes(out)


@st.composite
def damaged_lines(draw: st.DrawFn, raw: bytes) -> bytes:
    """Draw lines of a vocabulary or of merges out of order, twice, empty, of another form or very long."""
    lines = raw.split(b"\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        other = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["remove", "twice", "swap", "replace", "cut"])):
            case "remove" if len(lines) > 1:
                del lines[at]
            case "twice":
                lines.insert(at, lines[other])
            case "swap":
                lines[at], lines[other] = lines[other], lines[at]
            case "replace":
                lines[at] = draw(st.sampled_from([b"", b" ", b"a b c", b"x" * 100_000, b"\xff\xfe", b"\x00", b"\r"]))
            case _ if at:
                del lines[at:]
    return b"\n".join(lines)


TEMPLATES = (
    *("{{ 'x' * 10**9 }}", "{{ 9 ** 99999 }}", "{{ [0] * 10**9 }}", "{% set x %}{{ x }}{% endset %}", "{{ x"),
    *(
        "{% if %}",
        "{% for m in messages %}{{ loop.index / 0 }}{% endfor %}",
        "{{ ''.__class__ }}",
        "{{ messages * 9 }}",
    ),
    *("{{ self }}", "{{ raise_exception(messages) }}", "{{ strftime_now(3) }}", "{{ messages|tojson(indent='x') }}"),
    *(
        "{{ {}[[]] }}",
        "{% break %}",
        "{{ range(10**9) }}",
        "{{ 9 * messages[0].content }}",
        "{% include 'x' %}",
        "\x00",
    ),
    "(" * 10_000,
    "{{ " + "9" * 5000 + " }}",
    "{{ " + "(" * 10_000 + ")" * 10_000 + " }}",
    "{% if x %}" * 500 + "{% endif %}" * 500,
)
"""Faulty or hostile parts of a template."""


@st.composite
def damaged_template(draw: st.DrawFn, raw: bytes) -> bytes:
    """Draw a chat template with text inserted, or with a part removed or duplicated."""
    parts = re.split(r"(?<=\})", raw.decode())
    at = draw(st.integers(0, len(parts) - 1))
    match draw(st.sampled_from(["insert", "insert", "remove", "twice", "bytes"])):
        case "insert":
            parts.insert(at, draw(st.sampled_from(TEMPLATES)))
        case "remove":
            del parts[at]
        case "twice":
            parts.insert(at, parts[at])
        case _:
            return draw(damaged_bytes(raw))
    return "".join(parts).encode()


@st.composite
def damaged_header(draw: st.DrawFn, raw: bytes) -> bytes:
    """Draw a safetensors file with a header at odds with the rest of the file."""
    size = struct.unpack("<Q", raw[:8])[0]
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    match draw(st.sampled_from(["entry", "entry", "json", "length", "trailing", "twice", "numbers"])):
        case "json":
            text = draw(damaged_json(raw[8 : 8 + size]))
        case "length":
            length = draw(st.sampled_from([0, 1, size - 1, size + 1, 2**31, 2**40, 2**63, 2**64 - 1]))
            return struct.pack("<Q", length) + raw[8:]
        case "trailing":
            text = raw[8 : 8 + size] + draw(st.sampled_from([b"x", b"\x00", b"{}", b"\n", b" ", b" " * 1000]))
        case "twice":
            name = json.dumps(draw(st.sampled_from([name for name in header if name != "__metadata__"])))
            entry = json.dumps(header[draw(st.sampled_from(list(header)))])
            text = raw[8 : 8 + size].rstrip().rstrip(b"}") + f", {name}: {entry}}}".encode()
            text = text.replace(b"}, {", b"}}, {") if text.count(b"{") != text.count(b"}") else text
        case "numbers":
            text, numbers = raw[8 : 8 + size], bytearray(body)
            bad = draw(st.sampled_from([b"\xff\xff\xff\xff", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f"]))
            at = 4 * draw(st.integers(0, len(numbers) // 4 - 1))
            numbers[at : at + 4] = bad
            body = bytes(numbers)
        case _:
            name = draw(st.sampled_from([name for name in header if name != "__metadata__"]))
            begin, end = header[name]["data_offsets"]
            shape, dtype = header[name]["shape"], header[name]["dtype"]
            header[name] |= draw(
                st.sampled_from(
                    [
                        {"data_offsets": [begin, end + 4]},
                        {"data_offsets": [end, begin]},
                        {"data_offsets": [-4, end]},
                        {"data_offsets": [0, end - begin]},
                        {"data_offsets": [2**63, 2**64]},
                        {"data_offsets": [begin]},
                        {"shape": [*shape, 1]},
                        {"shape": shape[::-1]},
                        {"shape": [2**32, 2**32]},
                        {"shape": [2**62, 4, 1]},
                        {"shape": [-1, *shape[1:]]},
                        {"shape": []},
                        {"shape": [0]},
                        {"dtype": {"F32": "I32"}.get(dtype, "F32")},
                        {"dtype": "F16", "shape": [*shape[:-1], shape[-1] * 2]},
                        {"dtype": "F64"},
                        {"dtype": "F99"},
                        {"dtype": 7},
                        {"x": 7},
                    ]
                )
            )
            text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
