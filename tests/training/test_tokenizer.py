"""Tokenizers of a corpus: read alike by Triform and by transformers, and the same each time."""

from pathlib import Path

import pytest
import transformers

from tests.checkpoints import CORPUS
from triform.data import Row
from triform.errors import InputError
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer
from triform.training.tokenizer import Algorithm, TokenizerSettings, train_tokenizer

ROWS = [Row({"text": text, "text_pair": "and more"}, f"line {number}") for number, text in enumerate(CORPUS)]
TEXTS = ["A cat in the small house.", "Das Haus, und 42 Katzen — 🐈!", "Zyzzyva"]


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("lowercase", [True, False])
def test_both_read_it_alike(algorithm: Algorithm, lowercase: bool, tmp_path: Path) -> None:
    size = {Algorithm.WORDPIECE: 200, Algorithm.BYTE_LEVEL_BPE: 300, Algorithm.UNIGRAM: 120}[algorithm]
    settings = TokenizerSettings(algorithm=algorithm, vocab_size=size, lowercase=lowercase, ends=True)
    known = train_tokenizer(ROWS, settings, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    ours = Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = ours.encode([text])[0].ids.tolist()
        assert ids == theirs(text)["input_ids"]
        assert theirs.decode(ids, skip_special_tokens=True).strip() == ours.decode(ids).strip()
        assert ids[-1] == known["sep_token_id" if algorithm is Algorithm.WORDPIECE else "eos_token_id"]
    assert known["vocab_size"] == len(theirs) <= size
    assert known["pad_token_id"] == theirs.pad_token_id == 0
    assert ours.special("mask_token") == theirs.mask_token


@pytest.mark.parametrize("algorithm", [Algorithm.WORDPIECE, Algorithm.BYTE_LEVEL_BPE])
def test_it_is_the_same_each_time(algorithm: Algorithm, tmp_path: Path) -> None:
    settings = TokenizerSettings(algorithm=algorithm, vocab_size=300)
    train_tokenizer(ROWS, settings, tmp_path)
    before = (tmp_path / "tokenizer.json").read_bytes()
    for _ in range(3):
        train_tokenizer(ROWS, settings, tmp_path)
        assert (tmp_path / "tokenizer.json").read_bytes() == before


def test_pairs_of_wordpiece_have_segments(tmp_path: Path) -> None:
    train_tokenizer(ROWS, TokenizerSettings(algorithm=Algorithm.WORDPIECE, vocab_size=200), tmp_path)
    (tmp_path / "config.json").write_text("{}")
    encoded = Tokenizer.from_checkpoint(find_checkpoint(tmp_path)).encode([("a cat", "a house")])[0]
    assert [
        token for token, sequence in zip(encoded.tokens, encoded.sequence_ids, strict=True) if sequence is None
    ] == [
        "[CLS]",
        "[SEP]",
        "[SEP]",
    ]
    assert set(encoded.token_type_ids.tolist()) == {0, 1}


def test_rows_that_say_nothing_are_named(tmp_path: Path) -> None:
    settings = TokenizerSettings(algorithm=Algorithm.UNIGRAM, vocab_size=100)
    with pytest.raises(InputError, match="line 1: expected one of text, .* or tokens, got label"):
        train_tokenizer([Row({"label": "x"}, "in.csv, line 1")], settings, tmp_path)
