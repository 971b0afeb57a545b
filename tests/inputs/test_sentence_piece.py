"""SentencePiece files alone: ids of the sentencepiece library, and of transformers if transformers reads the files."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
import transformers
from transformers.tokenization_utils_base import generate_merges

from tests.inputs.beside_transformers import assert_threads_agree, encode, types_of
from tests.inputs.hard_texts import PAIRS, TEXTS, write_json
from tests.inputs.sentence_piece_files import read_charsmap, train, varint, write_unigram
from triform.errors import InputError, TokenizerError, UnsupportedModelError
from triform.hub import find_checkpoint
from triform.inputs import LongInput, Tokenizer
from triform.inputs.text.backend import Side

TAKEN_APART = ("e\u0301", "\u2122", "ﬁ", "\ufeff", "\u200d", "\U000e0041")
"""If normalisation changes the number of characters, the two libraries give different offsets."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentence_piece")
    with_pad: dict[str, Any] = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    train(folder / "spiece.model", model_type="unigram", vocab_size=300, character_coverage=0.98, **with_pad)
    as_is: dict[str, Any] = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    train(
        folder / "tokenizer.model", model_type="bpe", vocab_size=600, byte_fallback=True, split_digits=True,
        allow_whitespace_only_pieces=True, **as_is,
    )  # fmt: skip
    train(folder / "sentencepiece.bpe.model", model_type="unigram", vocab_size=300, character_coverage=0.98)
    train(folder / "source.spm", model_type="unigram", vocab_size=300, character_coverage=0.98)
    train(folder / "target.spm", model_type="unigram", vocab_size=250)
    return folder


@pytest.fixture
def t5(models: Path, tmp_path: Path) -> Path:
    shutil.copy(models / "spiece.model", tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "t5"})
    return tmp_path


@pytest.fixture
def llama(models: Path, tmp_path: Path) -> Path:
    shutil.copy(models / "tokenizer.model", tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"})
    return tmp_path


@pytest.fixture
def xlm_roberta(models: Path, tmp_path: Path) -> Path:
    shutil.copy(models / "sentencepiece.bpe.model", tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "xlm-roberta"})
    return tmp_path


@pytest.fixture
def marian(models: Path, tmp_path: Path) -> Path:
    """Number the pieces of two models jointly in vocab.json, with a few pieces missing."""
    vocabulary = ["</s>", "<unk>", ">>fra<<"]
    for name in ("source.spm", "target.spm"):
        shutil.copy(models / name, tmp_path)
        processor = processor_of(models / name)
        pieces = processor.id_to_piece(list(range(3, len(processor) - 10)))
        vocabulary += [piece for piece in pieces if piece not in vocabulary]
    vocabulary.append("<pad>")
    write_json(tmp_path / "vocab.json", {piece: number for number, piece in enumerate(vocabulary)})
    write_json(tmp_path / "tokenizer_config.json", {"source_lang": "en", "target_lang": "fr"})
    write_json(tmp_path / "config.json", {"model_type": "marian"})
    return tmp_path


def processor_of(path: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def test_extra_ids_come_last_and_eos_ends_a_text(t5: Path) -> None:
    ours = Tokenizer.from_checkpoint(find_checkpoint(t5))
    processor = processor_of(t5 / "spiece.model")
    for text in TEXTS:
        assert ours.encode([text])[0].ids.tolist() == [*processor.encode(text), 1], text
    size = len(processor)
    assert [ours.id_of("<extra_id_0>"), ours.id_of("<extra_id_99>")] == [size + 99, size]
    got = ours.encode(["The <extra_id_0> sat<extra_id_1>."])[0]
    the, sat, dot = (processor.encode(text) for text in ("The", "sat", "."))
    assert got.ids.tolist() == [*the, size + 99, *sat, size + 98, *dot, 1]
    assert ours.decode(got.ids.tolist(), skip_special_tokens=False) == "The<extra_id_0> sat<extra_id_1> .</s>"
    assert ours.decode(got.ids.tolist()) == "The sat ."
    pair = ours.encode([("sat", ".")])[0]
    assert pair.ids.tolist() == [*sat, 1, *dot, 1]
    assert set(pair.token_type_ids.tolist()) == {0}
    assert pair.sequence_ids == (0,) * len(sat) + (None,) + (1,) * len(dot) + (None,)


def test_published_unigram_model_equals_transformers(data: Path, tmp_path: Path) -> None:
    published = data / "tokenizers" / "t5-small"
    write_unigram(tmp_path / "spiece.model", published / "tokenizer.json", num_pieces=32000)
    shutil.copy(published / "tokenizer_config.json", tmp_path)
    ours, theirs = (
        Tokenizer.from_checkpoint(find_checkpoint(tmp_path)),
        transformers.AutoTokenizer.from_pretrained(published),
    )
    assert ours.max_length == 512
    texts: list[str | tuple[str, str]] = [*TEXTS, *PAIRS, "The <extra_id_0> walks in <extra_id_1> park</s>", "a<pad>b"]
    for text in texts:
        expected = theirs(*text) if isinstance(text, tuple) else theirs(text)
        got = ours.encode([text])[0]
        assert got.ids.tolist() == expected["input_ids"], text
        assert list(got.sequence_ids) == expected.encodings[0].sequence_ids, text
        assert got.token_type_ids.tolist() == expected.encodings[0].type_ids
        if not any(part in "".join(text) for part in TAKEN_APART):
            assert [tuple(span) for span in got.characters.tolist()] == expected.encodings[0].offsets, text
        for skip in (True, False):
            back = theirs.decode(expected["input_ids"], skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(got.ids.tolist(), skip_special_tokens=skip) == back, text


@pytest.mark.parametrize("settings", [{}, {"legacy": True}, {"add_eos_token": True}, {"add_bos_token": False}], ids=str)
def test_bytes_equal_transformers(llama: Path, settings: dict[str, Any]) -> None:
    write_json(llama / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", **settings})
    ours = Tokenizer.from_checkpoint(find_checkpoint(llama))
    processor = processor_of(llama / "tokenizer.model")
    vocabulary = {piece: number for number, piece in enumerate(processor.id_to_piece(list(range(len(processor)))))}
    # transformers needs protobuf to read the file itself.
    options = {"add_bos_token": True, **settings}
    theirs = transformers.LlamaTokenizer(vocab=vocabulary, merges=generate_merges(vocabulary), **options)
    texts: list[str | tuple[str, str]] = [*TEXTS, *PAIRS, "<s>a b</s> c", "a</s>b", "a  <unk>  b"]
    for text in texts:
        if "".join(text).startswith(" ") or (settings.get("legacy") and "> " in text):
            continue  # see the next test
        expected = theirs(*text) if isinstance(text, tuple) else theirs(text)
        got = encode(ours, text)
        assert ([] if got is None else got.ids.tolist()) == expected["input_ids"], text
        if got is not None:
            assert got.token_type_ids.tolist() == types_of(expected), text
            assert list(got.sequence_ids) == expected.encodings[0].sequence_ids, text
            assert [tuple(span) for span in got.characters.tolist()] == expected.encodings[0].offsets, text
            back = theirs.decode(expected["input_ids"], skip_special_tokens=True)
            assert ours.decode(got.ids.tolist()) == back, text


def test_spaces_before_a_text_are_those_of_the_model(llama: Path) -> None:
    """transformers 5 takes a leading space for the prefix space of SentencePiece, and loses the space."""
    ours, processor = Tokenizer.from_checkpoint(find_checkpoint(llama)), processor_of(llama / "tokenizer.model")
    for text in (" a", "   three", " "):
        got = ours.encode([text])[0]
        assert got.ids.tolist() == [1, *processor.encode(text)]
        assert ours.decode(got.ids.tolist()) == text


def test_every_byte_of_a_character_points_to_it(llama: Path) -> None:
    got = Tokenizer.from_checkpoint(find_checkpoint(llama)).encode(["a \U0001f9ff\u0fd0"], special_tokens=False)[0]
    bytes_of = [tuple(span) for span, token in zip(got.characters.tolist(), got.tokens, strict=True) if "<0x" in token]
    assert bytes_of == [(2, 3)] * 4 + [(3, 4)] * 3


def test_shifted_ids_equal_transformers(xlm_roberta: Path) -> None:
    path = xlm_roberta / "sentencepiece.bpe.model"
    ours, processor = Tokenizer.from_checkpoint(find_checkpoint(xlm_roberta)), processor_of(path)
    # transformers needs protobuf to read the file itself.
    vocabulary = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [(processor.id_to_piece(n), processor.get_score(n)) for n in range(3, len(processor))]
    vocabulary.append(("<mask>", 0.0))
    theirs = transformers.XLMRobertaTokenizer(
        vocab=vocabulary,
        _spm_precompiled_charsmap=read_charsmap(path),
        mask_token=tokenizers.AddedToken("<mask>", lstrip=True, special=True),
    )
    assert ours.id_of("<mask>") == theirs.mask_token_id == len(processor) + 1
    texts: list[str | tuple[str, str]] = [*TEXTS, *PAIRS, "The <mask> sat<mask>on a</s>mat", "a<pad>b <unk> <s>"]
    for text in texts:
        expected = theirs(*text) if isinstance(text, tuple) else theirs(text)
        got, encoding = ours.encode([text])[0], expected.encodings[0]
        assert got.ids.tolist() == expected["input_ids"], text
        # transformers writes the space that <mask> removed.
        assert list(got.tokens) == [token.lstrip(" ") for token in encoding.tokens], text
        assert list(got.sequence_ids) == encoding.sequence_ids, text
        assert got.token_type_ids.tolist() == encoding.type_ids, text
        if not any(part in "".join(text) for part in TAKEN_APART):
            assert [tuple(span) for span in got.characters.tolist()] == encoding.offsets, text
        for skip in (True, False):
            back = theirs.decode(expected["input_ids"], skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(got.ids.tolist(), skip_special_tokens=skip) == back, text


def test_shifted_ids_need_the_order_that_they_shift(xlm_roberta: Path, models: Path) -> None:
    shutil.copy(models / "spiece.model", xlm_roberta / "sentencepiece.bpe.model")
    with pytest.raises(TokenizerError, match="begins with .* not with <unk>, <s> and </s>. Fetch the file again"):
        Tokenizer.from_checkpoint(find_checkpoint(xlm_roberta))


def marian_of(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
        return transformers.MarianTokenizer.from_pretrained(folder)


def assert_equals_marian(ours: Tokenizer, theirs: Any) -> None:
    codes = [">>fra<< The cat sat on the mat.", ">>xyz<<unknown code", "not >>fra<< first", ">>fra<<", "a</s>b <unk>"]
    for text in [*TEXTS, *codes]:
        expected = theirs(text)["input_ids"]
        got = ours.encode([text])[0].ids.tolist()
        assert got == expected, text
        for skip in (True, False):
            back = theirs.decode(expected, skip_special_tokens=skip)
            assert ours.decode(got, skip_special_tokens=skip) == back, text


def test_a_text_of_the_target_is_cut_by_the_target_s_model(marian: Path) -> None:
    ours, theirs = Tokenizer.from_checkpoint(find_checkpoint(marian)).of_answers, marian_of(marian)
    for text in ("The house is wonderful.", "Die Katze auf der Matte 2.", " x  y"):
        assert ours.encode([text])[0].ids.tolist() == theirs(text_target=text)["input_ids"]


def test_a_vocabulary_beside_the_model_equals_transformers(marian: Path) -> None:
    ours = Tokenizer.from_checkpoint(find_checkpoint(marian))
    assert_equals_marian(ours, marian_of(marian))
    assert ours.encode([">>fra<< a"])[0].tokens[0] == ">>fra<<"
    assert ours.encode(["ぬ"])[0].ids.tolist()[-2:] == [1, 0]


def test_published_vocabulary_equals_transformers(data: Path, tmp_path: Path) -> None:
    published = data / "tokenizers" / "marian-nmt"
    for name in ("source.spm", "target.spm"):
        shutil.copy(published / "vocab.joint.spm", tmp_path / name)
    for name in ("vocab.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(published / name, tmp_path)
    assert_equals_marian(Tokenizer.from_checkpoint(find_checkpoint(tmp_path)), marian_of(tmp_path))


def test_the_target_model_joins_an_answer(marian: Path) -> None:
    """The denormalizer of the target model runs in decoding, here "a" for "b"."""
    normalizer = sentencepiece.SentencePieceNormalizer(norm_map=[("b", "a")])
    denormalizer_spec = normalizer.serialized_normalizer_spec()
    path = marian / "target.spm"
    path.write_bytes(path.read_bytes() + b"\x2a" + varint(len(denormalizer_spec)) + denormalizer_spec)
    ours = Tokenizer.from_checkpoint(find_checkpoint(marian))
    ids = ours.encode(["b"], special_tokens=False)[0].ids.tolist()
    assert ours.decode(ids) == "a"


def test_separate_vocabularies(marian: Path) -> None:
    write_json(marian / "target_vocab.json", {"</s>": 0, "<unk>": 1, "▁chat": 2, "s": 3})
    write_json(marian / "tokenizer_config.json", {"separate_vocabs": True})
    ours = Tokenizer.from_checkpoint(find_checkpoint(marian))
    assert ours.decode([2, 3, 0]) == "chats"
    (marian / "target_vocab.json").unlink()
    with pytest.raises(TokenizerError, match="has no target_vocab.json, which numbers the tokens"):
        Tokenizer.from_checkpoint(find_checkpoint(marian))


@pytest.mark.parametrize("kind", ["t5", "llama", "xlm_roberta", "marian"])
def test_characters_lie_in_the_text_in_order(kind: str, request: pytest.FixtureRequest) -> None:
    ours = Tokenizer.from_checkpoint(find_checkpoint(request.getfixturevalue(kind)))
    for text in TEXTS:
        got = ours.encode([text])[0]
        spans = [
            span for span, sequence in zip(got.characters.tolist(), got.sequence_ids, strict=True) if sequence == 0
        ]
        assert all(0 <= begin <= end <= len(text) for begin, end in spans), text
        assert [begin for begin, _ in spans] == sorted(begin for begin, _ in spans), text
    got = ours.encode(["the cat"])[0]
    whole = "".join("the cat"[begin:end] for begin, end in dict.fromkeys(map(tuple, got.characters.tolist())))
    assert whole.replace(" ", "") == "thecat"


@pytest.mark.parametrize("kind", ["t5", "llama", "xlm_roberta", "marian"])
def test_truncation_keeps_what_stands_round_a_text(kind: str, request: pytest.FixtureRequest) -> None:
    ours = Tokenizer.from_checkpoint(find_checkpoint(request.getfixturevalue(kind)))
    for text in ("the cat sat on the mat " * 5, ("the cat sat " * 5, "on the mat")):
        whole = ours.encode([text])[0]
        cut = ours.encode([text], max_length=12, long_input=LongInput.TRUNCATE)[0]
        assert len(cut.ids) == 12
        assert cut.dropped == len(whole.ids) - 12
        special = [token for token, sequence in zip(whole.tokens, whole.sequence_ids, strict=True) if sequence is None]
        assert [
            token for token, sequence in zip(cut.tokens, cut.sequence_ids, strict=True) if sequence is None
        ] == special


def test_pairs_are_cut_where_asked(t5: Path) -> None:
    ours = Tokenizer.from_checkpoint(find_checkpoint(t5))
    pair = ("one two three four five six seven", "the second text")
    whole = ours.encode([pair])[0]
    first = [row for row, sequence in enumerate(whole.sequence_ids) if sequence == 0]
    rest = [row for row in range(len(whole.ids)) if row not in first]
    sides: list[tuple[Side, list[int]]] = [("left", first[-5:]), ("right", first[:5])]
    for side, kept in sides:
        [cut] = ours.encode([pair], max_length=len(rest) + 5, long_input=LongInput.TRUNCATE, side=side, only_first=True)
        assert cut.ids.tolist() == whole.ids[[*kept, *rest]].tolist()
    with pytest.raises(InputError, match="leave no room for the first text beside 2 special tokens and"):
        ours.encode([pair], max_length=len(rest), long_input=LongInput.TRUNCATE, only_first=True)


def test_words_begin_behind_spaces(t5: Path) -> None:
    [text] = Tokenizer.from_checkpoint(find_checkpoint(t5)).encode([("Café unaffable, it's", "猫が 好き</s> x")])
    assert text.words is not None
    assert [word is None for word in text.words] == [sequence is None for sequence in text.sequence_ids]
    for sequence, part in enumerate((text.text, text.pair or "")):
        spans: dict[int | None, list[int]] = {}
        for word, found, (begin, end) in zip(text.words, text.sequence_ids, text.characters.tolist(), strict=True):
            if found == sequence:
                spans.setdefault(word, []).extend((begin, end))
        surfaces = [part[min(span) : max(span)].strip() for span in spans.values()]
        assert surfaces == part.replace("</s>", " </s>").split()


def test_added_tokens_take_their_spaces_with_them(t5: Path) -> None:
    added = {"400": {"content": "<gap>", "lstrip": True, "rstrip": True}, "401": {"content": "ox", "single_word": True}}
    write_json(t5 / "tokenizer_config.json", {"added_tokens_decoder": added})
    got = Tokenizer.from_checkpoint(find_checkpoint(t5)).encode(["a  <gap> ox box"])[0]
    whole = {token: tuple(span) for token, span in zip(got.tokens, got.characters.tolist(), strict=True)}
    assert whole["<gap>"] == (1, 9)
    assert whole["ox"] == (9, 11)
    assert got.ids.tolist().count(401) == 1


def test_listed_special_tokens_without_an_id_come_last(llama: Path) -> None:
    size = len(processor_of(llama / "tokenizer.model"))
    settings = {"tokenizer_class": "LlamaTokenizer", "additional_special_tokens": ["<a>"], "pad_token": "[PAD]"}
    write_json(llama / "tokenizer_config.json", settings)
    ours = Tokenizer.from_checkpoint(find_checkpoint(llama))
    vocabulary = {token: number for number, token in enumerate(["<unk>", "<s>", "</s>", *map(str, range(3, size))])}
    theirs = transformers.LlamaTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=["<a>"], pad_token="[PAD]")
    assert ours.id_of("<a>") == theirs.convert_tokens_to_ids("<a>") == size + 1
    assert ours.id_of("[PAD]") == theirs.pad_token_id == size
    assert ours.encode(["<a>"])[0].ids.tolist() == [1, size + 1]


@pytest.mark.parametrize("kind", ["t5", "llama", "xlm_roberta", "marian"])
def test_eight_threads_share_one_tokenizer(kind: str, request: pytest.FixtureRequest) -> None:
    assert_threads_agree(Tokenizer.from_checkpoint(find_checkpoint(request.getfixturevalue(kind))))


def test_damaged_or_missing_files_are_errors(marian: Path) -> None:
    (marian / "vocab.json").write_text('["a"]')
    with pytest.raises(TokenizerError, match="vocab.json: expected a JSON object of tokens and their ids"):
        Tokenizer.from_checkpoint(find_checkpoint(marian))
    (marian / "vocab.json").write_text('{"a": ')
    with pytest.raises(TokenizerError, match="vocab.json is damaged: .* Fetch the file again"):
        Tokenizer.from_checkpoint(find_checkpoint(marian))
    write_json(marian / "vocab.json", {"</s>": 0})
    with pytest.raises(TokenizerError, match="vocab.json has no '<unk>', the unk_token that it needs"):
        Tokenizer.from_checkpoint(find_checkpoint(marian))
    (marian / "source.spm").write_bytes(b"no model")
    with pytest.raises(TokenizerError, match="source.spm is damaged, or no SentencePiece model: .* Fetch the file"):
        Tokenizer.from_checkpoint(find_checkpoint(marian))
    (marian / "target.spm").unlink()
    with pytest.raises(TokenizerError, match="MarianTokenizer also needs target.spm. Fetch it"):
        Tokenizer.from_checkpoint(find_checkpoint(marian))


def test_wrong_settings_are_errors(t5: Path) -> None:
    write_json(t5 / "tokenizer_config.json", {"extra_ids": "many"})
    with pytest.raises(UnsupportedModelError, match="extra_ids is 'many'; expected .* at most 10000"):
        Tokenizer.from_checkpoint(find_checkpoint(t5))
    write_json(t5 / "tokenizer_config.json", {"added_tokens_decoder": {"7": {"content": "</s>"}}})
    with pytest.raises(TokenizerError, match="'</s>' should have id 7, but the vocabulary has it as 1"):
        Tokenizer.from_checkpoint(find_checkpoint(t5))


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    script = "import sys, triform.inputs; print('sentencepiece' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_rendered_conversation(llama: Path) -> None:
    """Special tokens of the template become tokens; the same letters in a message do not."""
    tokenizer = Tokenizer.from_checkpoint(find_checkpoint(llama))
    text = "<s>[INST] say </s> 猫 [/INST] </s>"
    begin = text.index("</s>")
    spelled = tokenizer.encode_rendered(text, spelled=[(begin, begin + 4)])
    assert [token for token in spelled.tokens if token in ("<s>", "</s>")] == ["<s>", "</s>"]
    assert spelled.characters[-1].tolist() == [len(text) - 4, len(text)]
    assert tokenizer.decode(spelled.ids.tolist(), skip_special_tokens=False) == text
    assert (
        tokenizer.encode_rendered(text).ids.tolist() == tokenizer.encode([text], special_tokens=False)[0].ids.tolist()
    )


@pytest.mark.parametrize("kind", ["t5", "llama", "xlm_roberta", "marian"])
def test_the_bytes_of_tokens_join_to_the_text(kind: str, request: pytest.FixtureRequest) -> None:
    ours = Tokenizer.from_checkpoint(find_checkpoint(request.getfixturevalue(kind))).of_answers
    known = ours.bytes_of_tokens()
    num_texts = 0
    for text in TEXTS:
        ids = ours.encode([f"a {text} a"], special_tokens=False)[0].ids.tolist()
        joined = b"".join(known[id] for id in ids)
        if all(known[id] for id in ids):
            assert joined.decode().strip() == ours.decode(ids, clean_up=False).strip()
            num_texts += 1
    assert num_texts > 3
    assert kind != "llama" or b"\n" in known
