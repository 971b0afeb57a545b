"""vocab.json and merges.txt alone: equal to the tokenizers of transformers made of the same two files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from tests.inputs.beside_transformers import assert_equal, assert_threads_agree
from tests.inputs.hard_texts import PAIRS, TEXTS, write_json
from triform.errors import TokenizerError
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer

WRAPPED_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def train(folder: Path, first: list[str]) -> None:
    """Train vocab.json and merges.txt, with `first` at the beginning of the vocabulary."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, special_tokens=first, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.model.save(str(folder))


@pytest.fixture
def wrapped(tmp_path: Path) -> Path:
    train(tmp_path, WRAPPED_TOKENS)
    write_json(tmp_path / "config.json", {"model_type": "roberta"})
    return tmp_path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    train(tmp_path, ["<|endoftext|>", "<|im_start|>"])
    write_json(tmp_path / "config.json", {"model_type": "gpt2"})
    return tmp_path


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}, {"add_bos_token": True}], ids=str)
def test_bare_equals_transformers(bare: Path, settings: dict[str, Any]) -> None:
    write_json(bare / "tokenizer_config.json", settings)
    ours = Tokenizer.from_checkpoint(find_checkpoint(bare))
    assert_equal(ours, transformers.GPT2TokenizerFast.from_pretrained(bare), more_texts=["a<|endoftext|> b"])


def test_published_files_equal_transformers(data: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(data / "tokenizers" / "gpt2" / name, tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    ours = Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    assert ours.encode(["Hello world"])[0].ids.tolist() == [15496, 995]
    assert_equal(ours, transformers.GPT2TokenizerFast.from_pretrained(tmp_path), more_texts=["a<|endoftext|> b"])


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}, {"trim_offsets": False}], ids=str)
@pytest.mark.parametrize("name", ["RobertaTokenizer", "BartTokenizer"])
def test_wrapped_equals_transformers(wrapped: Path, name: str, settings: dict[str, Any]) -> None:
    write_json(wrapped / "tokenizer_config.json", {"tokenizer_class": name, **settings})
    ours = Tokenizer.from_checkpoint(find_checkpoint(wrapped))
    theirs = getattr(transformers, name).from_pretrained(wrapped)
    assert_equal(ours, theirs, more_texts=["a</s>b"])
    assert ours.special("mask_token") == "<mask>"


def test_wrapped_equals_the_published_tokenizer_json(data: Path, tmp_path: Path) -> None:
    """Split a published tokenizer into two files, and rebuild the tokenizer; <mask> takes the space before <mask>."""
    published = data / "tokenizers" / "roberta-base" / "tokenizer.json"
    model = json.loads(published.read_text(encoding="utf-8"))["model"]
    write_json(tmp_path / "vocab.json", model["vocab"])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    write_json(tmp_path / "config.json", {"model_type": "roberta"})
    built = Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    expected = tokenizers.Tokenizer.from_file(str(published))
    texts: list[str | tuple[str, str]] = [*TEXTS, *PAIRS, "The capital is <mask>.", "a</s>b<pad>"]
    for text in texts:
        encoding = expected.encode(*text) if isinstance(text, tuple) else expected.encode(text)
        got = built.encode([text])[0]
        assert got.ids.tolist() == encoding.ids, text
        assert [tuple(span) for span in got.characters.tolist()] == encoding.offsets, text


def test_digits_apart_equals_transformers(bare: Path) -> None:
    added = {
        "500": {"content": "<|im_end|>", "special": True, "normalized": False},
        "501": {"content": "<tool>", "special": False, "normalized": False},
    }
    settings = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "pad_token": "<|endoftext|>"}
    write_json(bare / "tokenizer_config.json", settings)
    ours = Tokenizer.from_checkpoint(find_checkpoint(bare))
    assert_equal(
        ours,
        transformers.Qwen2TokenizerFast.from_pretrained(bare),
        more_texts=["<|im_start|>user 2024\n\n<|im_end|>", "a<tool>b 123", "e\u0301<tool>"],
    )
    assert ours.id_of("<tool>") == 501


def test_added_tokens_json(bare: Path) -> None:
    write_json(bare / "added_tokens.json", {"<two>": 501, "<one>": 500})
    ours = Tokenizer.from_checkpoint(find_checkpoint(bare))
    theirs = transformers.GPT2TokenizerFast.from_pretrained(bare)
    assert_equal(ours, theirs, more_texts=["a<one> <two>b"])


def test_eight_threads_share_one_tokenizer(wrapped: Path) -> None:
    assert_threads_agree(Tokenizer.from_checkpoint(find_checkpoint(wrapped)))


def test_damaged_files_are_errors(wrapped: Path) -> None:
    (wrapped / "merges.txt").write_text("not in the vocabulary\n")
    with pytest.raises(TokenizerError, match="vocab.json or .*merges.txt is damaged: "):
        Tokenizer.from_checkpoint(find_checkpoint(wrapped))
    (wrapped / "merges.txt").write_text("")
    write_json(wrapped / "vocab.json", {"a": 0})
    with pytest.raises(TokenizerError, match="vocab.json has no '</s>', the sep_token"):
        Tokenizer.from_checkpoint(find_checkpoint(wrapped))
    (wrapped / "vocab.json").write_text('{"a": ')
    with pytest.raises(TokenizerError, match="vocab.json is damaged"):
        Tokenizer.from_checkpoint(find_checkpoint(wrapped))
    write_json(wrapped / "vocab.json", {token: number for number, token in enumerate(WRAPPED_TOKENS)})
    write_json(wrapped / "tokenizer_config.json", {"added_tokens_decoder": {"0": {"special": True}}})
    with pytest.raises(
        TokenizerError, match="added_tokens_decoder has .*; expected a token.s text, or an object of content"
    ):
        Tokenizer.from_checkpoint(find_checkpoint(wrapped))
