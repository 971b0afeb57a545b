"""Training of tokenizers: a corpus → tokenizer files for transformers and Triform."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from triform.data import Row
from triform.errors import InputError
from triform.replacing import make_folder, write_json


class Algorithm(StrEnum):
    """Algorithms for splitting words into tokens."""

    WORDPIECE = "wordpiece"
    """WordPiece as in BERT: tokens inside a word are marked by ##."""
    BYTE_LEVEL_BPE = "byte-level-bpe"
    """Byte-pair encoding of bytes as in GPT-2: no text is unknown."""
    UNIGRAM = "unigram"
    """Unigram as in T5: the most probable tokens (Kudo 2018). Unlike the others, it is not reproducible bit for bit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerSettings:
    """Settings of a new tokenizer."""

    algorithm: Algorithm
    vocab_size: int
    lowercase: bool = False
    begins: bool = False
    """Whether <s> begins every text; wordpiece always begins with [CLS]."""
    ends: bool = False
    """Whether </s> ends every text; wordpiece always ends with [SEP]."""


WORDPIECE_ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROLES = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
IN_CONFIG = ("pad", "bos", "eos", "sep")
"""Special tokens whose ids are in config.json."""
TEXTS = ("text", "text_pair", "source", "target", "question", "context", "anchor", "positive", "negative")
"""Fields of rows that hold text."""


def train_tokenizer(rows: Iterable[Row], settings: TokenizerSettings, folder: Path) -> dict[str, int | None]:
    """Train a tokenizer, and write the files.

    Arguments:
        rows: the corpus.
        settings: algorithm and size.
        folder: folder for tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    Returns:
        Keys for config.json: vocab_size, and ids of special tokens such as pad_token_id.

    Raises:
        InputError: the rows have no text, a bad row, or the folder cannot be made.
    """
    roles = WORDPIECE_ROLES if settings.algorithm is Algorithm.WORDPIECE else ROLES
    tokenizer, trainer = KINDS[settings.algorithm](settings, list(roles.values()))
    if settings.algorithm is Algorithm.WORDPIECE:
        # The library gives inner letters their ids in random order, and breaks ties by ids.
        trainer.special_tokens += [f"##{letter}" for letter in _inner_letters(rows, tokenizer)]
    tokenizer.train_from_iterator(iterate_texts(rows), trainer)
    if settings.algorithm is Algorithm.WORDPIECE:
        tokenizer = _with_special(tokenizer, list(roles.values()))
    tokenizer.post_processor = _frame(settings, tokenizer)
    make_folder(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {f"{role}_token": token for role, token in roles.items()}
    write_json(folder / "special_tokens_map.json", tokens)
    # The class alone would give the second text of a pair no token types in transformers 5.
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if settings.algorithm is Algorithm.WORDPIECE else None
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens, "model_input_names": inputs}
    write_json(folder / "tokenizer_config.json", {key: value for key, value in config.items() if value is not None})
    ids = {f"{role}_token_id": tokenizer.token_to_id(roles[role]) for role in IN_CONFIG if role in roles}
    return {"vocab_size": tokenizer.get_vocab_size(), **ids}


def iterate_texts(rows: Iterable[Row]) -> Iterator[str]:
    """Yield all texts of some rows.

    Raises:
        InputError: a row has no text.
    """
    for row in rows:
        texts = [row.values[field] for field in TEXTS if isinstance(row.values.get(field), str)]
        texts += [" ".join(row.values["tokens"])] if "tokens" in row.values else []
        if not texts:
            raise InputError(f"{row.where}: expected one of {', '.join(TEXTS)} or tokens, got {', '.join(row.values)}.")
        yield from texts


def _inner_letters(rows: Iterable[Row], tokenizer: Tokenizer) -> list[str]:
    """Collect the letters inside words."""
    found: set[str] = set()
    for text in iterate_texts(rows):
        normal = tokenizer.normalizer.normalize_str(text)
        found.update(letter for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal) for letter in word[1:])
    return sorted(found)


def _with_special(tokenizer: Tokenizer, special: list[str]) -> Tokenizer:
    """Copy a tokenizer with only these tokens special."""
    made = Tokenizer(models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    made.decoder = tokenizer.decoder
    made.add_special_tokens(special)
    return made


def _wordpiece(settings: TokenizerSettings, special: list[str]) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=settings.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size, special_tokens=special, show_progress=False
    )


def _byte_level_bpe(settings: TokenizerSettings, special: list[str]) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase() if settings.lowercase else None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def _unigram(settings: TokenizerSettings, special: list[str]) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.Unigram())
    lowercase = [normalizers.Lowercase()] if settings.lowercase else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *lowercase])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=settings.vocab_size, special_tokens=special, unk_token="<unk>", show_progress=False
    )


KINDS = {
    Algorithm.WORDPIECE: _wordpiece,
    Algorithm.BYTE_LEVEL_BPE: _byte_level_bpe,
    Algorithm.UNIGRAM: _unigram,
}


def _frame(settings: TokenizerSettings, tokenizer: Tokenizer) -> processors.TemplateProcessing:
    """Make the processor for the special tokens around every text."""
    if settings.algorithm is Algorithm.WORDPIECE:
        single, pair = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
    else:
        begin, end = "<s> " * settings.begins, " </s>" * settings.ends
        single, pair = f"{begin}$A{end}", f"{begin}$A{end} $B{end}"
    names = {name for name in single.split() if name != "$A"}
    special = [(name, tokenizer.token_to_id(name)) for name in sorted(names)]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
