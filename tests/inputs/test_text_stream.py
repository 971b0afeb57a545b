"""Pieces of text, joined, are the whole text for every tokenizer, and arrive as soon as the text is certain."""

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from tests.inputs.hard_texts import TEXTS, write_json
from tests.inputs.sentence_piece_files import train
from triform.hub import find_checkpoint
from triform.inputs import TextStream, Tokenizer
from triform.inputs.text.text_stream import HALF, MOST
from triform.inputs.text.token_bytes import spelled_byte

KINDS = ["byte-level", "word-piece", "byte-fallback", "no-decoder", "llama.model", "t5.model", "two.models"]
LONG = " ".join(TEXTS * 3)


def write_tokenizer(kind: str, folder: Path) -> None:
    if kind == "llama.model":
        options: dict[str, Any] = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
        train(folder / "tokenizer.model", model_type="bpe", vocab_size=600, byte_fallback=True, **options)
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"})
    elif kind == "t5.model":
        options = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
        train(folder / "spiece.model", model_type="unigram", vocab_size=300, **options)
        write_json(folder / "config.json", {"model_type": "t5"})
    elif kind == "two.models":
        vocabulary = ["</s>", "<unk>", "<pad>", *"▁abcdefghijklmnopqrstuvwxyz", "▁the", "▁cat", ",", "."]
        for name in ("source.spm", "target.spm"):
            train(folder / name, model_type="unigram", vocab_size=300, character_coverage=0.98)
        write_json(folder / "vocab.json", {token: number for number, token in enumerate(vocabulary)})
        write_json(folder / "config.json", {"model_type": "marian"})
    else:
        library_tokenizer(kind).save(str(folder / "tokenizer.json"))


def library_tokenizer(kind: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=kind == "byte-fallback", unk_token="<unk>"))
    special = ["<unk>", "<s>", "</s>"]
    alphabet: list[str] = []
    if kind == "byte-fallback":
        special += [f"<0x{number:02X}>" for number in range(256)]
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    elif kind == "byte-level":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=alphabet, limit_alphabet=256, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if kind == "byte-fallback":  # bytes are ordinary tokens, as in published files
        saved = tokenizer.to_str().replace('"special":true', '"special":false')
        tokenizer = tokenizers.Tokenizer.from_str(saved)
        tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> dict[str, Tokenizer]:
    made = {}
    for kind in KINDS:
        folder = minilm if kind == "word-piece" else tmp_path_factory.mktemp(kind)
        if kind != "word-piece":
            write_tokenizer(kind, folder)
        made[kind] = Tokenizer.from_checkpoint(find_checkpoint(folder))
    return made


def stream(tokenizer: Tokenizer, ids: list[int], *, skip: bool) -> list[str]:
    words = TextStream(tokenizer, skip_special_tokens=skip)
    return [*(words.add(id) for id in ids), words.finish()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("skip", [True, False])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_pieces_together_are_the_whole(kinds: dict[str, Tokenizer], kind: str, skip: bool, data: st.DataObject) -> None:
    """Any ids in any order: broken characters, special tokens among them, ids of nothing."""
    tokenizer = kinds[kind]
    drawn = st.lists(st.integers(0, 700 if kind != "word-piece" else 30600), max_size=100)
    written = st.sampled_from(TEXTS).map(lambda text: tokenizer.encode([text + "."])[0].ids.tolist())
    ids = [id for part in data.draw(st.lists(st.one_of(drawn, written), max_size=4)) for id in part]
    assert "".join(stream(tokenizer, ids, skip=skip)) == tokenizer.decode(ids, skip_special_tokens=skip)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_comes_as_soon_as_it_is_certain(kinds: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = kinds[kind]
    ids = tokenizer.encode([LONG])[0].ids.tolist()
    words, said = TextStream(tokenizer), ""
    for count, id in enumerate(ids, 1):
        said += words.add(id)
        if spelled_byte(tokenizer.token_of(id) or "") is None:
            certain = tokenizer.decode(ids[:count])
            assert said in (certain, certain.removesuffix(HALF)), count
            assert len(words._window) <= 3 * MOST


def test_no_half_characters(kinds: dict[str, Tokenizer]) -> None:
    tokenizer = kinds["byte-level"]
    pieces = stream(tokenizer, tokenizer.encode(["🐈猫é"])[0].ids.tolist(), skip=True)
    assert [piece for piece in pieces if piece] == ["🐈", "猫", "é"]
    assert stream(tokenizer, tokenizer.encode(["a🐈"])[0].ids.tolist()[:2], skip=True) == ["a", "", HALF]


def test_nothing_is_nothing(kinds: dict[str, Tokenizer]) -> None:
    assert stream(kinds["byte-level"], [], skip=True) == [""]
