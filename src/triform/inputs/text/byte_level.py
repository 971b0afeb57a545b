"""Byte-level BPE from vocab.json and merges.txt: bytes, written as letters, merged in the order of merges.txt.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2. There are three variants:
without special tokens, with a token before and after each text, and with another pattern for words.
"""

from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from triform.hub import Checkpoint
from triform.inputs.text.added_tokens import add_to, require, switch, with_space_before_mask
from triform.inputs.text.library import LibraryBackend, damage_in
from triform.inputs.text.vocabulary import read_vocabulary

WORDS_AND_SINGLE_DIGITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build_bare(checkpoint: Checkpoint, settings: dict[str, Any]) -> LibraryBackend:
    """Build the variant without special tokens, or with the ones of add_bos_token and add_eos_token (GPT-2).

    Raises:
        TokenizerError: a file is missing or damaged, or a setting has a wrong value.
    """
    tokenizer = _open(checkpoint, settings)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=switch(settings, "add_prefix_space", False))
    _add_special_tokens(tokenizer, checkpoint, settings)
    return LibraryBackend(tokenizer)


def build_wrapped(checkpoint: Checkpoint, settings: dict[str, Any]) -> LibraryBackend:
    """Build the variant with cls_token before a text, sep_token after it, and two of sep_token between a pair.

    Raises:
        TokenizerError: a file is missing or damaged, or a setting has a wrong value.
    """
    settings = with_space_before_mask(settings)
    tokenizer = _open(checkpoint, settings)
    prefix_space = switch(settings, "add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    path = str(checkpoint.folder / "vocab.json")
    tokenizer.post_processor = processors.RobertaProcessing(
        require(tokenizer, settings, "sep_token", path),
        require(tokenizer, settings, "cls_token", path),
        trim_offsets=switch(settings, "trim_offsets", True),
        add_prefix_space=prefix_space,
    )
    return LibraryBackend(tokenizer)


def build_digits_apart(checkpoint: Checkpoint, settings: dict[str, Any]) -> LibraryBackend:
    """Build the variant with composed characters (NFC), each digit apart, and no special tokens.

    Raises:
        TokenizerError: a file is missing or damaged, or a setting has a wrong value.
    """
    tokenizer = _open(checkpoint, settings)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS_AND_SINGLE_DIGITS), behavior="isolated"),
            pre_tokenizers.ByteLevel(
                add_prefix_space=switch(settings, "add_prefix_space", False),
                use_regex=False,
            ),
        ]
    )
    _add_special_tokens(tokenizer, checkpoint, settings)
    return LibraryBackend(tokenizer)


def _open(checkpoint: Checkpoint, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    vocabulary, merges = (str(checkpoint.folder / name) for name in ("vocab.json", "merges.txt"))
    read_vocabulary(checkpoint.folder / "vocab.json")  # the library accepts a token that stands in the file twice
    with damage_in(f"{vocabulary} or {merges}"):
        model = models.BPE.from_file(
            vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False
        )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.decoder = decoders.ByteLevel()
    add_to(tokenizer, checkpoint, settings)
    return tokenizer


def _add_special_tokens(tokenizer: tokenizers.Tokenizer, checkpoint: Checkpoint, settings: dict[str, Any]) -> None:
    """Add bos_token before and eos_token after each text, where tokenizer_config.json asks for them."""
    path = str(checkpoint.folder / "vocab.json")
    before = [require(tokenizer, settings, "bos_token", path)] if switch(settings, "add_bos_token", False) else []
    after = [require(tokenizer, settings, "eos_token", path)] if switch(settings, "add_eos_token", False) else []

    def template(text: str, segment: int) -> list[str]:
        names = [*(name for name, _ in before), text, *(name for name, _ in after)]
        return [f"{name}:{segment}" for name in names]

    tokenizer.post_processor = processors.TemplateProcessing(
        single=template("$A", 0), pair=template("$A", 0) + template("$B", 1), special_tokens=before + after
    )
