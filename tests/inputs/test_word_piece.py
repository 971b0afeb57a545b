"""vocab.txt alone: equal to BertTokenizer of transformers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.inputs.beside_transformers import assert_equal, assert_threads_agree
from tests.inputs.hard_texts import TEXTS, write_json
from triform.errors import TokenizerError, UnsupportedModelError
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer

SETTINGS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
    {"strip_accents": None, "model_max_length": 512},
]


@pytest.fixture
def folder(minilm: Path, tmp_path: Path) -> Path:
    shutil.copy(minilm / "vocab.txt", tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "bert"})
    return tmp_path


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_transformers(folder: Path, settings: dict[str, Any]) -> None:
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **settings})
    ours = Tokenizer.from_checkpoint(find_checkpoint(folder))
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    assert_equal(ours, theirs, more_texts=["a [MASK] and [SEP] b[CLS]", "[mask]", "[UNK]"])
    assert ours.special("mask_token") == "[MASK]"
    assert ours.id_of("[MASK]") == theirs.mask_token_id
    assert ours.join(["un", "##aff", "##able"]) == "unaffable"


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_angles_round_a_text_equal_transformers(minilm: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    words = (minilm / "vocab.txt").read_text(encoding="utf-8").splitlines()[5:]
    (tmp_path / "vocab.txt").write_text("\n".join(["<s>", "<pad>", "</s>", "<unk>", "[UNK]", *words, "<mask>"]))
    write_json(tmp_path / "config.json", {"model_type": "mpnet"})
    write_json(tmp_path / "tokenizer_config.json", settings)
    ours = Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    theirs = transformers.MPNetTokenizer.from_pretrained(tmp_path)
    assert_equal(ours, theirs, more_texts=["a <mask> and </s> b<s>", "<MASK>", "<unk> [UNK]", "a<pad>"])
    assert ours.special("mask_token") == "<mask>"


def test_equals_the_tokenizer_json_beside_it(folder: Path, minilm: Path) -> None:
    built, read = Tokenizer.from_checkpoint(find_checkpoint(folder)), Tokenizer.from_checkpoint(find_checkpoint(minilm))
    for text in TEXTS:
        assert built.encode([text])[0].ids.tolist() == read.encode([text])[0].ids.tolist()


def test_added_tokens_are_kept_whole(folder: Path) -> None:
    write_json(folder / "added_tokens.json", {"<new>": 30522, "<newer>": 30523})
    write_json(folder / "special_tokens_map.json", {"additional_special_tokens": ["<newer>"]})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizerFast"})
    ours = Tokenizer.from_checkpoint(find_checkpoint(folder))
    assert ours.encode(["a<new>b <newer>"])[0].ids.tolist() == [101, 1037, 30522, 1038, 30523, 102]
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    assert ours.decode([1037, 30522, 30523]) == theirs.decode([1037, 30522, 30523], skip_special_tokens=True)
    write_json(folder / "added_tokens.json", {"<new>": 40000})
    with pytest.raises(TokenizerError, match="'<new>' should have id 40000, .* leave it 30522. Fetch"):
        Tokenizer.from_checkpoint(find_checkpoint(folder))


def test_listed_special_tokens_without_an_id_come_last(folder: Path) -> None:
    write_json(folder / "tokenizer_config.json", {"additional_special_tokens": ["<a>", "<b>"]})
    ours = Tokenizer.from_checkpoint(find_checkpoint(folder))
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    assert [ours.id_of("<a>"), ours.id_of("<b>")] == [30522, 30523]
    assert ours.encode(["x<a> <b>"])[0].ids.tolist() == theirs("x<a> <b>")["input_ids"]


def test_eight_threads_share_one_tokenizer(folder: Path) -> None:
    assert_threads_agree(Tokenizer.from_checkpoint(find_checkpoint(folder)))


def test_a_damaged_file_or_setting_is_an_error(folder: Path) -> None:
    write_json(folder / "tokenizer_config.json", {"do_lower_case": "yes"})
    with pytest.raises(UnsupportedModelError, match="do_lower_case is 'yes'; expected true or false"):
        Tokenizer.from_checkpoint(find_checkpoint(folder))
    write_json(folder / "tokenizer_config.json", {})
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\na\n")
    with pytest.raises(TokenizerError, match=r"vocab.txt has no '\[CLS\]', the cls_token"):
        Tokenizer.from_checkpoint(find_checkpoint(folder))
    (folder / "vocab.txt").write_text("")
    with pytest.raises(TokenizerError, match=r"vocab.txt has no '\[UNK\]', the unk_token"):
        Tokenizer.from_checkpoint(find_checkpoint(folder))
    (folder / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TokenizerError, match="vocab.txt is damaged"):
        Tokenizer.from_checkpoint(find_checkpoint(folder))
