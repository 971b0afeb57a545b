"""Pipelines of tokenizer.json whose pieces begin with the mark of a space, as in SentencePiece.

Kudo and Richardson 2018, "SentencePiece".
"""

import tokenizers
from tokenizers import decoders, pre_tokenizers, processors

from triform.errors import TokenizerError
from triform.inputs.text.added_tokens import require
from triform.inputs.text.byte_level import frame_ends
from triform.inputs.text.pipeline import Pipeline
from triform.inputs.text.tokenizer_settings import TokenizerSettings

NUM_EXTRA_IDS = 100
MAX_EXTRA_IDS = 10_000
UNKNOWN_LETTER = "\U0010fffe"
"""A code point without a character, which no vocabulary has."""


def extra_ids(settings: TokenizerSettings) -> list[str]:
    """List <extra_id_0>, <extra_id_1> …, the tokens for the gaps in the pretraining of T5.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.1.4.
    """
    count = settings.integer("extra_ids", NUM_EXTRA_IDS, minimum=0, maximum=MAX_EXTRA_IDS)
    return [f"<extra_id_{number}>" for number in range(count)]


def _set_up_with_extra_ids(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    extra, names = extra_ids(settings), {token.content for token in settings.listed()}
    if not settings.lists_tokens() and names.isdisjoint(extra):
        settings.list_also(extra)
    _set_up_words(tokenizer, "always", 2)


def _frame_end(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings, file: str) -> None:
    end = ("</s>", require(tokenizer, settings, "eos_token", file)[1])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[end]
    )


def _set_up_wrapped(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    # A null counts as false in this class of transformers.
    prefix_space = settings.boolean("add_prefix_space", not settings.mentions("add_prefix_space"))
    _set_up_words(tokenizer, "always" if prefix_space else "never", 3)


def _frame_wrapped(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings, file: str) -> None:
    """Put bos_token before a text, eos_token after it, and two of eos_token between a pair."""
    start, end = (require(tokenizer, settings, role, file) for role in ("bos_token", "eos_token"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[start[0], "$A", end[0]],
        pair=[start[0], "$A", end[0], end[0], "$B", end[0]],
        special_tokens=[start, end],
    )


def _set_up_words(tokenizer: tokenizers.Tokenizer, prepend_scheme: str, unknown: int) -> None:
    """Set up unigrams within words; of the file's normalizer, the table of characters stays.

    Raises:
        TokenizerError: the file has another unknown token than the class.
    """
    found = [token.id for token in tokenizer.model.tokenize(UNKNOWN_LETTER)]
    if found != [unknown]:
        raise TokenizerError(
            f"tokenizer.json has the id {found} for an unknown character, and its class the id {unknown}. If "
            'tokenizer.json is right, write "tokenizer_class": "PreTrainedTokenizerFast" into tokenizer_config.json.'
        )
    normalizer = tokenizer.normalizer
    parts = list(normalizer) if type(normalizer).__name__ == "Sequence" else [normalizer]
    tokenizer.normalizer = next((part for part in parts if type(part).__name__ == "Precompiled"), None)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prepend_scheme),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=prepend_scheme)


def _set_up_with_bytes(tokenizer: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    """Set up merges of a text with its spaces; unknown characters are spelled in bytes."""
    model = tokenizer.model
    model.unk_token = model.continuing_subword_prefix = model.end_of_word_suffix = None
    model.fuse_unk = model.byte_fallback = True
    model.ignore_merges = False
    prefix_space, legacy = settings.boolean("add_prefix_space", True), settings.boolean("legacy", False)
    # Legacy: a space before the text behind an added token, too.
    scheme = ("always" if legacy else "first") if prefix_space else "never"
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(content=" ", left=1)] if prefix_space else parts)


WITH_EXTRA_IDS = Pipeline(model="Unigram", set_up=_set_up_with_extra_ids, frame=_frame_end)
WRAPPED = Pipeline(model="Unigram", set_up=_set_up_wrapped, frame=_frame_wrapped)
WITH_BYTES = Pipeline(model="BPE", set_up=_set_up_with_bytes, frame=frame_ends)
