"""WordPiece from vocab.txt: words split into the longest pieces of the vocabulary, as in BERT.

Devlin et al. 2018, "BERT"; Schuster and Nakajima 2012 for the search of the pieces.
"""

from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from triform.hub import Checkpoint
from triform.inputs.text.added_tokens import add_to, require, switch, token_of, with_space_before_mask
from triform.inputs.text.library import LibraryBackend, damage_in


def build(checkpoint: Checkpoint, settings: dict[str, Any]) -> LibraryBackend:
    """Build BERT's variant: cls_token before a text, sep_token after it, token type 1 for the second text of a pair.

    Raises:
        TokenizerError: vocab.txt is damaged, or a setting has a wrong value.
    """
    tokenizer = _open(checkpoint, settings)
    start, end = _ends(tokenizer, checkpoint, settings)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start[0]}:0 $A:0 {end[0]}:0",
        pair=f"{start[0]}:0 $A:0 {end[0]}:0 $B:1 {end[0]}:1",
        special_tokens=[start, end],
    )
    return LibraryBackend(tokenizer)


def build_wrapped(checkpoint: Checkpoint, settings: dict[str, Any]) -> LibraryBackend:
    """Build MPNet's variant: special tokens as in RoBERTa, with two of sep_token between a pair and one token type.

    Song et al. 2020, "MPNet".

    Raises:
        TokenizerError: vocab.txt is damaged, or a setting has a wrong value.
    """
    settings = with_space_before_mask(settings)
    tokenizer = _open(checkpoint, settings)
    start, end = _ends(tokenizer, checkpoint, settings)
    tokenizer.post_processor = processors.RobertaProcessing(end, start, trim_offsets=True, add_prefix_space=False)
    return LibraryBackend(tokenizer)


def _open(checkpoint: Checkpoint, settings: dict[str, Any]) -> tokenizers.Tokenizer:
    """Build the pipeline of vocab.txt and tokenizer_config.json, without special tokens."""
    path = str(checkpoint.folder / "vocab.txt")
    unknown = token_of(settings, "unk_token") or "[UNK]"
    with damage_in(path):
        tokenizer = tokenizers.Tokenizer(models.WordPiece.from_file(path, unk_token=unknown))
    accents = settings.get("strip_accents")
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=switch(settings, "tokenize_chinese_chars", True),
        # None: accents are stripped if letters are lowercased.
        strip_accents=None if accents is None else switch(settings, "strip_accents", False),
        lowercase=switch(settings, "do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    add_to(tokenizer, checkpoint, settings)
    require(tokenizer, settings, "unk_token", path)
    return tokenizer


def _ends(
    tokenizer: tokenizers.Tokenizer, checkpoint: Checkpoint, settings: dict[str, Any]
) -> tuple[tuple[str, int], tuple[str, int]]:
    """Find the tokens before and after a text, with their ids."""
    path = str(checkpoint.folder / "vocab.txt")
    return require(tokenizer, settings, "cls_token", path), require(tokenizer, settings, "sep_token", path)
