"""Heads that many families read from config.json alike."""

from triform import spec
from triform.families.kit.config import Config


def backbone(config: Config) -> None:
    """No head: the backbone alone."""


def token_head(config: Config, dropout: float = 0.1) -> spec.TokenHead:
    """A class for each token; `dropout` is what `classifier_dropout` is by default."""
    return spec.TokenHead(labels=config.labels(), dropout=config.rate("classifier_dropout", dropout))


def last_token_head(config: Config) -> spec.SequenceHead:
    """A class for the sequence, by its last token, as decoders have it."""
    return spec.SequenceHead(labels=config.labels(), problem=config.problem(), pooling=spec.Pooling.LAST, bias=False)


def source_again(config: Config) -> spec.ShiftTokensRight:
    """What the decoder of an encoder-decoder reads where a head classifies."""
    return spec.ShiftTokensRight(start=config.integer("decoder_start_token_id", minimum=0))


def end_token_head(config: Config) -> spec.SequenceHead:
    """A class for the sequence, by its end token and a tanh pooler, as encoder-decoders have it."""
    dropout = config.rate("classifier_dropout")
    return spec.SequenceHead(
        labels=config.labels(),
        problem=config.problem(),
        pooling=spec.LastOf(token=config.integer("eos_token_id", minimum=0)),
        pooler=spec.Activation.TANH,
        pooled_dropout=dropout,
        dropout=dropout,
    )


def span_head(config: Config) -> spec.SpanHead:
    """Where an answer starts and ends."""
    config.expect("num_labels", 2)
    return spec.SpanHead()
