"""Heads that many families read from config.json alike."""

from triform import spec
from triform.families.config import Config


def backbone(config: Config) -> None:
    """No head: the backbone alone."""


def token_head(config: Config) -> spec.TokenHead:
    """A class for each token."""
    return spec.TokenHead(labels=config.labels())


def last_token_head(config: Config) -> spec.SequenceHead:
    """A class for the sequence, by its last token, as decoders have it."""
    return spec.SequenceHead(labels=config.labels(), problem=config.problem(), pooling=spec.Pooling.LAST, bias=False)


def span_head(config: Config) -> spec.SpanHead:
    """Where an answer starts and ends."""
    config.expect("num_labels", 2)
    return spec.SpanHead()
