"""Small SentencePiece models, and a model written from a published tokenizer.json."""

import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

import sentencepiece

from tests.inputs.hard_texts import TEXTS

NORMAL, UNKNOWN, CONTROL = 1, 2, 3
CORPUS = [*TEXTS, "the cat sat on the mat", "ein Hund und eine Katze", "un chat est sur le tapis"]


def train(path: Path, **options: Any) -> None:
    """Train a model on the hard texts; `options` are options of the trainer."""
    model = io.BytesIO()
    sentences = [text for text in CORPUS if text.strip() and "\x00" not in text]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 20),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    path.write_bytes(model.getvalue())


def write_unigram(path: Path, tokenizer_json: Path, num_pieces: int) -> None:
    """Write the model file behind a tokenizer.json, as far as encoding needs.

    https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
    """
    content = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    types = {"<pad>": CONTROL, "</s>": CONTROL, "<unk>": UNKNOWN}
    model = b""
    for piece, score in content["model"]["vocab"][:num_pieces]:
        text = piece.encode()
        kind = types.get(piece, NORMAL)
        entry = _bytes(1, text) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        model += _bytes(1, entry)
    model += _bytes(2, b"")  # trainer_spec: unigram, by default
    model += _bytes(3, _bytes(2, base64.b64decode(content["normalizer"]["precompiled_charsmap"])))
    path.write_bytes(model)


def read_charsmap(path: Path) -> bytes:
    """Read the normalisation table of a model file: normalizer_spec.precompiled_charsmap."""
    return _fields(_fields(path.read_bytes())[3])[2]


def _fields(message: bytes) -> dict[int, bytes]:
    """Return the strings and messages of a protobuf message, the last of each field."""
    found, place = {}, 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
            if byte < 0x80:
                return value

    while place < len(message):
        tag = number()
        match tag & 7:
            case 0:
                number()
            case 2:
                length = number()
                found[tag >> 3] = message[place : place + length]
                place += length
            case fixed:
                place += {1: 8, 5: 4}[fixed]
    return found


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + varint(len(content)) + content


def varint(number: int) -> bytes:
    """Encode a number as a protobuf varint: seven bits at a time, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
