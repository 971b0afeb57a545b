"""tokenizer.json that would take too much memory or time, choose at random, or make its library panic."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inputs.hard_texts import TEXTS, write_json
from tests.inputs.sentence_piece_files import read_charsmap, train
from tests.inputs.tokenizer_folders import bert, gpt2, whole, xlm_roberta
from triform.errors import TokenizerError
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer
from triform.inputs.text.charsmap import check_charsmap


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def change(folder: Path, **parts: Any) -> None:
    path = folder / "tokenizer.json"
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **parts})


def read(folder: Path) -> Tokenizer:
    return Tokenizer.from_checkpoint(find_checkpoint(folder))


NORMALIZERS = [
    [replace({"String": "a"}, "aa")] * 40,
    [replace({"Regex": "(?=a)"}, "a")] * 40,
    [replace({"String": ""}, "a")] * 40,
    [{"type": "ByteLevel"}] * 40,
    [{"type": "Prepend", "prepend": "a" * 2000}],
    [{"type": "Sequence", "normalizers": [replace({"String": "a"}, "aaaa")] * 10}],
    [{"type": "Lowercase"}] * 1000,
]
DECODERS = [
    [replace({"String": "a"}, "a" * 1000)] * 6,
    [{"type": "BPEDecoder", "suffix": ""}] * 40,
    [{"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "", "cleanup": False}] * 40,
]


@pytest.mark.parametrize("parts", NORMALIZERS, ids=str)
def test_growth_of_normalizers(tmp_path: Path, parts: list[dict[str, Any]]) -> None:
    change(whole(tmp_path), normalizer={"type": "Sequence", "normalizers": parts})
    with pytest.raises(TokenizerError, match=r"tokenizer.json: .* Correct the file, or use another checkpoint"):
        read(tmp_path)


@pytest.mark.parametrize("parts", DECODERS, ids=str)
def test_growth_of_decoders(tmp_path: Path, parts: list[dict[str, Any]]) -> None:
    change(whole(tmp_path), decoder={"type": "Sequence", "decoders": parts})
    with pytest.raises(TokenizerError, match=r"may make [0-9,]+ characters of one; at most 1,024"):
        read(tmp_path)


def test_growth_of_pre_tokenizers(tmp_path: Path) -> None:
    part = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    change(whole(tmp_path), pre_tokenizer={"type": "Sequence", "pretokenizers": [part] * 40})
    with pytest.raises(TokenizerError, match="may make .* characters of one"):
        read(tmp_path)


def test_replacements_as_they_are_published(tmp_path: Path) -> None:
    quotes = [replace({"String": "``"}, '"'), replace({"String": "''"}, '"'), replace({"Regex": " {2,}"}, " ")]
    change(whole(tmp_path), normalizer={"type": "Sequence", "normalizers": [*quotes, {"type": "NFKD"}]})
    read(tmp_path)


def test_length_of_words(tmp_path: Path) -> None:
    """A class of transformers has its own length; else the file's length counts."""
    folder = whole(tmp_path)
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    change(folder, model={**model, "max_input_chars_per_word": 10**9})
    with pytest.raises(TokenizerError, match="max_input_chars_per_word is 1,000,000,000; expected at most 200"):
        read(folder)
    change(folder, model={**model, "max_input_chars_per_word": 200})
    begin = time.process_time()
    read(folder).encode(["éx" * 100_000, "x" * 200])
    assert time.process_time() - begin < 2


def test_size_of_templates(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    many = {"id": "[CLS]", "ids": [2] * 1000, "tokens": ["[CLS]"] * 1000}
    special, text = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    pair = [text, {"Sequence": {"id": "B", "type_id": 0}}]
    for single in ([special] * 5 + [text], [text] * 500):
        template = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {"[CLS]": many}}
        for processor in (template, {"type": "Sequence", "processors": [template]}):
            change(folder, post_processor=processor)
            with pytest.raises(TokenizerError, match="template puts more than 1,000 tokens or texts around each text"):
                read(folder)


def test_number_of_added_tokens(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    [token] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"][:1]
    change(folder, added_tokens=[{**token, "id": 200 + n, "content": f"<{n}>"} for n in range(100_001)])
    with pytest.raises(TokenizerError, match="100,001 added tokens are more than the 100,000 allowed"):
        read(folder)


@pytest.mark.parametrize("write", [gpt2, bert])
def test_dropout(tmp_path: Path, write: Any) -> None:
    folder = write(tmp_path)
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    if model["type"] == "BPE":
        change(folder, model={**model, "dropout": 0.5})
        with pytest.raises(TokenizerError, match=r"dropout is 0.5, which gives one text other tokens at each call"):
            read(folder)
    for sound in (0.0, None):
        change(folder, model={**model, "dropout": sound})
        read(folder)


@pytest.fixture(scope="module")
def charsmap(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Train a SentencePiece model; its table of characters is that of NFKC, as in most published models."""
    path = tmp_path_factory.mktemp("charsmap") / "model"
    train(path, model_type="unigram", vocab_size=300, character_coverage=0.98)
    return read_charsmap(path)


def test_damaged_tables_of_characters(tmp_path: Path, charsmap: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """A table at which the library would panic is refused before, without a word on stderr."""
    folder = xlm_roberta(tmp_path)
    tables = [b"", bytes(4), (8).to_bytes(4, "little") + b"\xff\x7f\xff\x00" * 2 + b"abc", charsmap[:1000]]
    for table in tables:
        change(folder, normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()})
        with pytest.raises(TokenizerError, match="precompiled_charsmap is damaged"):
            read(folder)
    assert capfd.readouterr().err == ""
    change(folder, normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()})
    read(folder)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_table_that_passes_does_not_panic(charsmap: bytes, data: st.DataObject) -> None:
    table = bytearray(charsmap)
    for place, value in data.draw(st.lists(st.tuples(st.integers(4, len(table) - 1), st.integers(0, 255)))):
        table[place] = value
    try:
        check_charsmap(base64.b64encode(table))
    except ValueError:
        return
    normalizer = tokenizers.normalizers.Precompiled(bytes(table))
    for text in [*TEXTS, "".join(map(chr, range(0x20, 0x3000)))]:
        normalizer.normalize_str(text)
