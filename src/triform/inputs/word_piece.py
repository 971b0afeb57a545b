"""WordPiece from vocab.txt: words cut into the longest pieces the vocabulary has, as BERT does.

Devlin et al. 2018, "BERT"; the pieces' search is that of Schuster and Nakajima 2012.
"""

from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from triform.hub import Checkpoint
from triform.inputs.added_tokens import add_to, require, switch, token_of
from triform.inputs.library import LibraryBackend, damage_in


def build(checkpoint: Checkpoint, settings: dict[str, Any]) -> LibraryBackend:
    """Build the pipeline of vocab.txt and tokenizer_config.json.

    Raises:
        TokenizerError: vocab.txt is damaged, or a setting is not what it must be.
    """
    path = str(checkpoint.folder / "vocab.txt")
    unknown = token_of(settings, "unk_token") or "[UNK]"
    with damage_in(path):
        tokenizer = tokenizers.Tokenizer(models.WordPiece.from_file(path, unk_token=unknown))
    accents = settings.get("strip_accents")
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=switch(settings, "tokenize_chinese_chars", True),
        # Left open, accents go where capitals go.
        strip_accents=None if accents is None else switch(settings, "strip_accents", False),
        lowercase=switch(settings, "do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    add_to(tokenizer, checkpoint, settings)
    require(tokenizer, settings, "unk_token", path)
    start, end = (require(tokenizer, settings, role, path) for role in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start[0]}:0 $A:0 {end[0]}:0",
        pair=f"{start[0]}:0 $A:0 {end[0]}:0 $B:1 {end[0]}:1",
        special_tokens=[start, end],
    )
    return LibraryBackend(tokenizer)
