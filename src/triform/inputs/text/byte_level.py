"""Byte-level BPE: bytes, written as letters, merged in the order of merges.txt.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2. There are three variants:
without special tokens, with a token before and after each text, and with another pattern for words.
"""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from triform.hub import Checkpoint
from triform.inputs.text.added_tokens import require
from triform.inputs.text.library import LibraryBackend, damage_in
from triform.inputs.text.pipeline import Pipeline
from triform.inputs.text.tokenizer_settings import ROLES, TokenizerSettings
from triform.inputs.text.vocabulary import read_vocabulary

WORDS_AND_SINGLE_DIGITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build_bare(checkpoint: Checkpoint, settings: TokenizerSettings) -> LibraryBackend:
    """Build the variant of GPT-2 from vocab.json and merges.txt.

    Raises:
        TokenizerError: a file is missing or damaged, or lacks a special token.
    """
    return _build(checkpoint, settings, BARE)


def build_wrapped(checkpoint: Checkpoint, settings: TokenizerSettings) -> LibraryBackend:
    """Build the variant of RoBERTa from vocab.json and merges.txt.

    Raises:
        TokenizerError: a file is missing or damaged, or lacks a special token.
    """
    settings.describe("mask_token", {"lstrip": True})
    return _build(checkpoint, settings, WRAPPED)


def build_digits_apart(checkpoint: Checkpoint, settings: TokenizerSettings) -> LibraryBackend:
    """Build the variant of Qwen 2 from vocab.json and merges.txt.

    Raises:
        TokenizerError: a file is missing or damaged, or lacks a special token.
    """
    return _build(checkpoint, settings, DIGITS_APART)


def _build(checkpoint: Checkpoint, settings: TokenizerSettings, pipeline: Pipeline) -> LibraryBackend:
    vocabulary, merges = (str(checkpoint.folder / name) for name in ("vocab.json", "merges.txt"))
    read_vocabulary(checkpoint.folder / "vocab.json")  # the library accepts a token that stands in the file twice
    with damage_in(f"{vocabulary} or {merges}"):
        model = models.BPE.from_file(vocabulary, merges)
    return pipeline.build(tokenizers.Tokenizer(model), checkpoint, settings, vocabulary)


def _set_up(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    """Set up a model without unknown tokens, since every byte has a token."""
    model = tokenizer.model
    model.unk_token = None
    model.continuing_subword_prefix = model.end_of_word_suffix = ""
    model.fuse_unk = model.byte_fallback = model.ignore_merges = False
    prefix_space = settings.boolean("add_prefix_space", False)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()


def _set_up_digits_apart(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    """Set up composed characters (NFC) and another pattern for words, with each digit apart."""
    _set_up(tokenizer, settings)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS_AND_SINGLE_DIGITS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=settings.boolean("add_prefix_space", False), use_regex=False),
        ]
    )


def frame_ends(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings, file: str) -> None:
    """Put bos_token before and eos_token after each text, where the settings ask for them.

    A template of tokenizer.json stays, unless the settings mention one of the two.
    """
    keys = ("add_bos_token", "add_eos_token")
    if tokenizer.post_processor is not None and not any(map(settings.mentions, keys)):
        return
    before = [require(tokenizer, settings, "bos_token", file)] if settings.boolean("add_bos_token", False) else []
    after = [require(tokenizer, settings, "eos_token", file)] if settings.boolean("add_eos_token", False) else []

    def template(text: str, segment: int) -> list[str]:
        names = [*(name for name, _ in before), text, *(name for name, _ in after)]
        return [f"{name}:{segment}" for name in names]

    tokenizer.post_processor = processors.TemplateProcessing(
        single=template("$A", 0), pair=template("$A", 0) + template("$B", 1), special_tokens=before + after
    )


def _frame_digits_apart(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings, file: str) -> None:
    """Mark the special tokens as special, whatever their flags are in `added_tokens_decoder`."""
    names = [settings.content(role) for role in ROLES] + [token.content for token in settings.listed()]
    tokenizer.add_tokens([tokenizers.AddedToken(name, special=True) for name in names if name is not None])
    frame_ends(tokenizer, settings, file)


def _frame_wrapped(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings, file: str) -> None:
    """Put cls_token before a text, sep_token after it, and two of sep_token between a pair."""
    tokenizer.post_processor = processors.RobertaProcessing(
        require(tokenizer, settings, "sep_token", file),
        require(tokenizer, settings, "cls_token", file),
        trim_offsets=settings.boolean("trim_offsets", True),
        add_prefix_space=settings.boolean("add_prefix_space", False),
    )


BARE = Pipeline(model="BPE", set_up=_set_up, frame=frame_ends)
WRAPPED = Pipeline(model="BPE", set_up=_set_up, frame=_frame_wrapped)
DIGITS_APART = Pipeline(model="BPE", set_up=_set_up_digits_apart, frame=_frame_digits_apart)
