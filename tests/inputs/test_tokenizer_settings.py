"""Every key of a tokenizer's settings files changes the tokens as in transformers, or is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.inputs.hard_texts import write_json
from tests.inputs.tokenizer_folders import FOLDERS
from triform.errors import ModelError, UnsupportedModelError
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer
from triform.inputs.text.tokenizer_settings import HARMLESS, ROLES

TEXTS: list[str | tuple[str, str]] = [
    "The cat don't eat café É 東京 1234 .",
    "a [MASK] b </s> c <s><E> d <mask>e <e> <|endoftext|> <F>s [new] NEW",
    "x , y ! it ' s  [PAD] <pad> <unk> <extra_id_0>",
    ("the first", "the second"),
]

TOKEN = {"content": "<E>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
FLAGS = [{}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}]
SWITCH = [True, False, None, "yes", 1]

TOKENS: list[Any] = ["<E>", "[MASK]", "the", None, "", 3, {"content": "<E>"}, {**TOKEN, "__type": "AddedToken"}]
VALUES: dict[str, list[Any]] = {
    **dict.fromkeys(ROLES, TOKENS),
    "image_token": ["<E>", None],
    "additional_special_tokens": [["<E>"], ["<E>", "<F>"], [], ["the"], [{**TOKEN, "__type": "AddedToken"}], "x", None],
    "extra_special_tokens": [["<E>"], {"one": "<E>"}, {}, ["<F>", "<E>"], 3],
    "model_specific_special_tokens": [{"one": "<E>"}, {}, None],
    "do_lower_case": SWITCH,
    "strip_accents": SWITCH,
    "tokenize_chinese_chars": SWITCH,
    "add_prefix_space": SWITCH,
    "trim_offsets": SWITCH,
    "legacy": SWITCH,
    "add_bos_token": SWITCH,
    "add_eos_token": SWITCH,
    "split_special_tokens": SWITCH,
    "clean_up_tokenization_spaces": SWITCH,
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": SWITCH,
    "separate_vocabs": SWITCH,
    "extra_ids": [0, 2, 100, None, "x"],
    "model_max_length": [8, 1e30, None, 0],
    "max_len": [8],
    "truncation_side": ["left", "right", "middle"],
    "padding_side": ["left", "right"],
    "model_input_names": [["input_ids"], ["input_ids", "attention_mask"], ["input_ids", "token_type_ids"]],
    "fast_tokenizer_files": [[], ["tokenizer.json"], ["tokenizer.4.0.0.json"]],
    "fix_mistral_regex": [True, False],
    "trust_remote_code": [True, False],
    "init_inputs": [[], ["x"]],
    "tokenizer_class": [
        *("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", "GPT2TokenizerFast"),
        *("RobertaTokenizer", "T5TokenizerFast", "LlamaTokenizerFast", "XLMRobertaTokenizerFast", "Qwen2Tokenizer"),
        *("MPNetTokenizer", "DistilBertTokenizer", "ElectraTokenizerFast", "BartTokenizer", "NoSuchTokenizer", None),
    ],
    "vocab": [{"a": 0}],
    "merges": [[]],
    "post_processor": ["x"],
    "tokenizer_truncation": [{"max_length": 2}],
    "no_such_key": [1],
}
HARMLESS_VALUES: list[Any] = ["x", 7]
READ_ELSEWHERE = {"auto_map", "chat_template"}


def config_edits() -> Iterator[tuple[str, Any]]:
    """Yield each key of tokenizer_config.json with each value to try."""
    for key, values in VALUES.items():
        yield from ((key, value) for value in values)
    for key in HARMLESS:
        if key not in READ_ELSEWHERE and key not in VALUES:
            yield from ((key, value) for value in HARMLESS_VALUES)


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, {**content, **values})


def read_theirs(folder: Path, **settings: Any) -> Any:
    """Read the answers of transformers; None if transformers cannot read the folder."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **settings)
        answers = []
        for text in TEXTS:
            ids = (tokenizer(*text) if isinstance(text, tuple) else tokenizer(text))["input_ids"]
            answers.append((ids, *(tokenizer.decode(ids, skip_special_tokens=skip) for skip in (True, False))))
        return answers
    except Exception:  # transformers raises many kinds
        return None


def read_ours(folder: Path, **settings: Any) -> Any:
    """Read the answers of Triform; the message of an error."""
    try:
        tokenizer = Tokenizer.from_checkpoint(find_checkpoint(folder), settings)
        answers = []
        for encoded in tokenizer.encode(TEXTS):
            ids = encoded.ids.tolist()
            answers.append((ids, *(tokenizer.decode(ids, skip_special_tokens=skip) for skip in (True, False))))
        return answers
    except ModelError as error:
        return str(error)


def assert_followed_or_refused(folder: Path, what: object, **settings: Any) -> bool:
    """Compare both readers; return whether Triform has read the folder."""
    ours = read_ours(folder, **settings)
    if isinstance(ours, str):
        return False
    theirs = read_theirs(folder, **settings)
    assert theirs is None or ours == theirs, what
    return True


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / "sound"
    path.mkdir()
    return FOLDERS[kind](path)


def copied(folder: Path) -> Path:
    target = folder.parent / "changed"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    return target


MAP_VALUES: dict[str, list[Any]] = {
    **{role: ["<E>", "the", TOKEN, {**TOKEN, "lstrip": True}] for role in ROLES},
    "additional_special_tokens": [["<E>"], ["<E>", "<F>"], []],
    "extra_special_tokens": [["<E>"], [{**TOKEN}], {"one": "<E>"}],
    "image_token": ["<E>"],
    "pad_token": [None, "<E>", "<F>"],
    "do_lower_case": [False],
    "model_max_length": [5],
}
ADDED_VALUES: list[dict[str, Any]] = [{"<E>": 0}, {"<E>": 1}, {"<E>": -1}, {"<E>": "x"}, {"the": 0}, {"": 0}]


OWN_IDS = ("t5", "bert", "cased", "whole", "words")
"""Folders whose class adds tokens itself, or whose vocabulary has some of the tokens of these tests."""


def size_of(folder: Path) -> int:
    """Return the next free id."""
    return len(transformers.AutoTokenizer.from_pretrained(str(folder)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_tokenizer_config(folder: Path) -> None:
    assert assert_followed_or_refused(folder, "as it is")
    for key, value in config_edits():
        changed = copied(folder)
        change(changed, "tokenizer_config.json", **{key: value})
        assert assert_followed_or_refused(changed, (key, value)) or key not in HARMLESS or key in VALUES


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_settings_of_the_caller_win(folder: Path) -> None:
    """A caller's setting has the effect of a keyword of `AutoTokenizer.from_pretrained`."""
    assert assert_followed_or_refused(folder, "of downloads", use_fast=False, trust_remote_code=True)
    with pytest.raises(UnsupportedModelError, match="subfolder = 'other' asks for other files"):
        Tokenizer.from_checkpoint(find_checkpoint(folder), {"subfolder": "other"})
    for key, values in VALUES.items():
        if key in ("tokenizer_class", "fast_tokenizer_files", "vocab", "merges", "init_inputs"):
            continue  # keywords of the reader, and not of the tokenizer
        for value in values:
            assert_followed_or_refused(folder, (key, value), **{key: value})


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("listed", [False, True])
def test_special_tokens_map(folder: Path, listed: bool) -> None:
    """special_tokens_map.json wins over tokenizer_config.json, and is not used beside `added_tokens_decoder`."""
    if listed:
        transformers_tokens = transformers.AutoTokenizer.from_pretrained(str(folder)).added_tokens_decoder
        entries = {str(id): describe(token) for id, token in transformers_tokens.items()}
        change(folder, "tokenizer_config.json", added_tokens_decoder=entries)
        assert assert_followed_or_refused(folder, "as it is")
    for key, values in MAP_VALUES.items():
        for value in values:
            changed = copied(folder)
            change(changed, "special_tokens_map.json", **{key: value})
            assert_followed_or_refused(changed, (key, value))


def describe(token: Any) -> dict[str, Any]:
    names = ("content", "lstrip", "rstrip", "single_word", "normalized", "special")
    return {name: getattr(token, name) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_added_tokens(folder: Path, kind: str) -> None:
    """Tokens of added_tokens.json and of `added_tokens_decoder`, with ids that fit and that do not."""
    free = size_of(folder)
    for entry in ADDED_VALUES:
        for listed in ([], ["<E>"]):
            changed = copied(folder)
            write_json(
                changed / "added_tokens.json", {t: free + n if isinstance(n, int) else n for t, n in entry.items()}
            )
            change(changed, "special_tokens_map.json", additional_special_tokens=listed)
            was_read = assert_followed_or_refused(changed, entry)
            assert was_read or entry not in ({"<E>": 0}, {"the": 0}) or kind in OWN_IDS, entry
            assert not was_read or entry in ({"<E>": 0}, {"the": 0}), entry
    there = transformers.AutoTokenizer.from_pretrained(str(folder)).added_tokens_decoder
    entries = {str(id): describe(token) for id, token in there.items()}
    for content in ("<E>", "[new]", "e"):
        for flags in FLAGS:
            for special in (False, True):
                changed = copied(folder)
                new = {**TOKEN, "content": content, "special": special, **flags}
                change(changed, "tokenizer_config.json", added_tokens_decoder={**entries, str(free): new})
                was_read = assert_followed_or_refused(changed, new)
                assert was_read or content == "e" or kind in OWN_IDS
                change(changed, "tokenizer_config.json", added_tokens_decoder={**entries, str(free + 3): new})
                assert not assert_followed_or_refused(changed, new)
    for id, token in entries.items():
        for flag in ("lstrip", "rstrip", "single_word", "normalized", "special"):
            changed = copied(folder)
            turned = {**entries, id: {**token, flag: not token[flag]}}
            change(changed, "tokenizer_config.json", added_tokens_decoder=turned)
            assert_followed_or_refused(changed, (id, flag))
        changed = copied(folder)
        rest = {other: entry for other, entry in entries.items() if other != id}
        change(changed, "tokenizer_config.json", added_tokens_decoder=rest)
        assert_followed_or_refused(changed, (id, "missing"))


TRUNCATION = {"direction": "Left", "max_length": 12, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 40},
    "direction": "Left",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "<E>",
}
PARTS: dict[str, list[Any]] = {
    "truncation": [TRUNCATION, {**TRUNCATION, "direction": "Right"}, None],
    "padding": [PADDING, None],
    "normalizer": [None, {"type": "Lowercase"}, {"type": "NFKC"}],
    "pre_tokenizer": [None, {"type": "Whitespace"}, {"type": "Digits", "individual_digits": True}],
    "post_processor": [None],
    "decoder": [None, {"type": "Fuse"}],
    "no_such_key": [1],
}


def places(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each value that is neither a list nor an object; vocabulary and merges are left out."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        if key in ("vocab", "merges"):
            continue
        if isinstance(value, dict | list) and len(value) > 0:
            yield from places(value if len(value) < 20 else value[:2], (*path, key))
        else:
            yield (*path, key)


def turned(value: Any) -> list[Any]:
    match value:
        case bool():
            return [not value, None]
        case int() | float():
            return [value + 1, 3, 0.5]
        case str():
            return ["x", "</s>", None]
    return [True, 2, "the"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [name for name in FOLDERS if name not in ("words", "merges")])
def test_tokenizer_json(folder: Path) -> None:
    """Each setting of tokenizer.json, with another value, another type, or taken out."""
    sound = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for key, values in PARTS.items():
        for value in values:
            write_json(folder / "tokenizer.json", {**sound, key: value})
            assert_followed_or_refused(folder, (key, value))
    for path in places(sound):
        for value in [*turned(at(sound, path)), ABSENT]:
            write_json(folder / "tokenizer.json", with_value(sound, path, value))
            assert_followed_or_refused(folder, (path, value))


ABSENT = object()


def at(content: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def with_value(content: Any, path: tuple[str | int, ...], value: Any) -> Any:
    key, *rest = path
    changed: Any = dict(content) if isinstance(content, dict) else list(content)
    if rest:
        changed[key] = with_value(changed[key], tuple(rest), value)
    elif value is ABSENT:
        del changed[key]
    else:
        changed[key] = value
    return changed
