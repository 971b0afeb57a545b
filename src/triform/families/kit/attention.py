"""The attention of most families."""

from triform import spec

ALL_BIASES = frozenset({"query", "key", "value", "output"})


def biased_heads(num_heads: int, head_dim: int) -> spec.Heads:
    """A key for every query, and a bias on each projection."""
    return spec.Heads(
        num_attention_heads=num_heads, num_key_value_heads=num_heads, head_dim=head_dim, biases=ALL_BIASES
    )


def scaled_rule(head_dim: int, mask: spec.Mask) -> spec.ScoreRule:
    """Scores scaled by 1/√head_dim. Vaswani et al. 2017, section 3.2.1."""
    return spec.ScoreRule(scale=head_dim**-0.5, mask=mask)


def scaled_attention(
    num_heads: int,
    head_dim: int,
    mask: spec.Mask,
    position: spec.AttentionPosition | None = None,
    *,
    dropout: float,
) -> spec.SelfAttention:
    """Self-attention with `biased_heads` and a `scaled_rule`."""
    return spec.SelfAttention(
        heads=biased_heads(num_heads, head_dim),
        rule=scaled_rule(head_dim, mask),
        position=position,
        dropout=dropout,
    )


def encoder_decoder_attention(
    heads: spec.Heads,
    scale: float,
    *,
    is_decoder: bool,
    position: spec.AttentionPosition | None = None,
    dropout: float,
) -> list[spec.Core]:
    """The attention of one stack: the encoder's self-attention, or the decoder's and its cross-attention."""
    whole = spec.ScoreRule(scale=scale, mask=spec.Bidirectional())
    if not is_decoder:
        return [spec.SelfAttention(heads=heads, rule=whole, position=position, dropout=dropout)]
    causal = spec.ScoreRule(scale=scale, mask=spec.Causal())
    return [
        spec.SelfAttention(heads=heads, rule=causal, position=position, dropout=dropout),
        spec.CrossAttention(heads=heads, rule=whole, dropout=dropout),
    ]
