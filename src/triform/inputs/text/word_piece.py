"""WordPiece: words split into the longest pieces of the vocabulary, as in BERT.

Devlin et al. 2018, "BERT"; Schuster and Nakajima 2012 for the search of the pieces.
"""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from triform.errors import TokenizerError
from triform.hub import Checkpoint
from triform.inputs.text.added_tokens import require
from triform.inputs.text.library import LibraryBackend, damage_in
from triform.inputs.text.pipeline import Pipeline
from triform.inputs.text.tokenizer_settings import TokenizerSettings

MAX_WORD = 100
"""Longer words become the unknown token: the search of the pieces takes the square of the length."""


def build(checkpoint: Checkpoint, settings: TokenizerSettings) -> LibraryBackend:
    """Build BERT's variant from vocab.txt.

    Raises:
        TokenizerError: vocab.txt is damaged, or lacks a special token.
    """
    return _build(checkpoint, settings, PLAIN)


def build_wrapped(checkpoint: Checkpoint, settings: TokenizerSettings) -> LibraryBackend:
    """Build MPNet's variant from vocab.txt.

    Raises:
        TokenizerError: vocab.txt is damaged, or lacks a special token.
    """
    return _build(checkpoint, settings, WRAPPED)


def _build(checkpoint: Checkpoint, settings: TokenizerSettings, pipeline: Pipeline) -> LibraryBackend:
    path = str(checkpoint.folder / "vocab.txt")
    with damage_in(path):
        tokenizer = tokenizers.Tokenizer(models.WordPiece.from_file(path, unk_token="[UNK]"))
    require(tokenizer, settings, "unk_token", path)
    return pipeline.build(tokenizer, checkpoint, settings, path)


def _set_up(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    unknown = settings.content("unk_token")
    if unknown is None or tokenizer.model.token_to_id(unknown) is None:
        raise TokenizerError(
            f"{settings.where}: unk_token is {unknown!r}, which is not in the vocabulary; expected the token of "
            "unknown words. Correct the file."
        )
    tokenizer.model.unk_token = unknown
    tokenizer.model.continuing_subword_prefix = "##"
    tokenizer.model.max_input_chars_per_word = MAX_WORD
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.boolean("tokenize_chinese_chars", True),
        # None: accents are stripped if letters are lowercased.
        strip_accents=settings.optional_boolean("strip_accents"),
        lowercase=settings.boolean("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")


def _set_up_wrapped(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    settings.describe("mask_token", {"lstrip": True})
    _set_up(tokenizer, settings)


def _frame(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings, file: str) -> None:
    """Put cls_token before a text, sep_token after it, and token type 1 on the second text of a pair."""
    start, end = (require(tokenizer, settings, role, file) for role in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start[0]}:0 $A:0 {end[0]}:0",
        pair=f"{start[0]}:0 $A:0 {end[0]}:0 $B:1 {end[0]}:1",
        special_tokens=[start, end],
    )


def _frame_wrapped(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings, file: str) -> None:
    """Put special tokens as in RoBERTa, with two of sep_token between a pair and one token type.

    Song et al. 2020, "MPNet".
    """
    start, end = (require(tokenizer, settings, role, file) for role in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.RobertaProcessing(end, start, trim_offsets=True, add_prefix_space=False)


PLAIN = Pipeline(model="WordPiece", set_up=_set_up, frame=_frame)
WRAPPED = Pipeline(model="WordPiece", set_up=_set_up_wrapped, frame=_frame_wrapped)
