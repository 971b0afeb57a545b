"""Heads of many families: reads of config.json, and rules for tensors."""

from triform import spec
from triform.families.kit.config import Config
from triform.weights import Rename


def backbone(config: Config) -> None:
    """Return no head: the architecture is the backbone alone."""


def masked_language_head(config: Config, activation: spec.Activation, norm: spec.LayerNorm) -> spec.LanguageHead:
    """Return the head of a masked language model: a transform before a projection with a bias."""
    transform = spec.Transform(activation=activation, norm=norm)
    return spec.LanguageHead(tied=config.boolean("tie_word_embeddings", True), bias=True, transform=transform)


def masked_language_bias(model: spec.Model, bias: str, decoder_bias: str) -> tuple[list[Rename], tuple[str, ...]]:
    """Return the rules for the bias of `masked_language_head`, and the names to ignore.

    A tied projection has one bias, stored under both names. An untied projection has the bias `decoder_bias`; the
    tensor `bias` may then differ and means nothing, unless it is the only one.
    """
    is_tied = not isinstance(model.head, spec.LanguageHead) or model.head.tied
    names = (bias, decoder_bias) if is_tied else (decoder_bias, bias)
    return [Rename(name, "language_head.bias") for name in names], () if is_tied else (bias,)


def first_token_head(
    config: Config, pooler: spec.Activation, *, dropout: float, pooled_dropout: float = 0.0
) -> spec.SequenceHead:
    """Return the classifier of sequences in most encoders, on the first token behind a pooler."""
    return spec.SequenceHead(
        labels=config.labels(),
        problem=config.problem(),
        pooling=spec.Pooling.FIRST,
        pooler=pooler,
        pooled_dropout=pooled_dropout,
        dropout=dropout,
    )


def last_token_head(config: Config) -> spec.SequenceHead:
    """Return the classifier of sequences in most decoders, on the last token that is not the padding.

    A text may end with the token that is also the padding, for example the end of a text.
    """
    padding = config.integer("pad_token_id", -1, minimum=-1)
    pooling = spec.Pooling.LAST if padding < 0 else spec.LastExcept(token=padding)
    return spec.SequenceHead(labels=config.labels(), problem=config.problem(), pooling=pooling, bias=False)


def end_token_head(config: Config) -> spec.SequenceHead:
    """Return the classifier of sequences in most encoder-decoders, on the end token behind a pooler."""
    dropout = config.rate("classifier_dropout")
    return spec.SequenceHead(
        labels=config.labels(),
        problem=config.problem(),
        pooling=spec.LastOf(token=config.integer("eos_token_id", minimum=0)),
        pooler=spec.Activation.TANH,
        pooled_dropout=dropout,
        dropout=dropout,
    )


def shifted_target(config: Config, architecture: str) -> spec.ShiftTokensRight | None:
    """Return the decoder's input of an encoder-decoder with a head for classes or spans: the source, shifted right.

    None for the other architectures, whose decoder writes.
    """
    if not architecture.endswith(("ForSequenceClassification", "ForQuestionAnswering")):
        return None
    return spec.ShiftTokensRight(start=config.integer("decoder_start_token_id", minimum=0))


def token_head(config: Config, dropout: float = 0.1) -> spec.TokenHead:
    """Return a classifier of tokens, with the rate `dropout` unless config.json has `classifier_dropout`."""
    return spec.TokenHead(labels=config.labels(), dropout=config.rate("classifier_dropout", dropout))


def span_head(config: Config) -> spec.SpanHead:
    """Return the head for answers: scores of each token as start and as end."""
    config.expect("num_labels", 2)
    return spec.SpanHead()
