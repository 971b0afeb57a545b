"""LLaMA: Open and Efficient Foundation Language Models. Touvron et al. 2023, arXiv:2302.13971.

Llama 2 adds grouped queries, Llama 3 a scaling of the rotary frequencies (arXiv:2307.09288, arXiv:2407.21783).
"""

from collections.abc import Sequence
from dataclasses import replace

from triform import spec
from triform.families.kit.attention import ALL_BIASES, scaled_rule
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, last_token_head, span_head, token_head
from triform.weights import Rename, WeightTable


def form(config: Config, architecture: str) -> spec.Decoder:
    """Return a decoder with RMSNorm before each layer, rotary positions and a gated feed-forward."""
    config.expect("is_encoder_decoder", False)
    config.expect("rope_interleaved", False)
    config.ignore("tie_word_embeddings", "is_llama_config")
    biases = ALL_BIASES if config.boolean("attention_bias", False) else frozenset()
    return decoder(config, biases=biases, feed_forward_bias=config.boolean("mlp_bias", False))


def decoder(
    config: Config,
    *,
    biases: frozenset[str] = frozenset(),
    feed_forward_bias: bool = False,
    windows: Sequence[int | None] | None = None,
    has_head_norm: bool = False,
) -> spec.Decoder:
    """Return the decoder, for this family and descendants.

    Arguments:
        config: the config.json.
        biases: names of the attention's projections that have a bias.
        feed_forward_bias: whether the feed-forward has biases.
        windows: the attention window of each block; without them no block has a window.
        has_head_norm: whether queries and keys are normalised head by head (QK-norm).
    """
    norm = spec.RMSNorm(eps=config.number("rms_norm_eps", 1e-6))
    num_heads = config.integer("num_attention_heads")
    head_dim = config.optional_integer("head_dim") or config.quotient("hidden_size", "num_attention_heads")
    attention = spec.SelfAttention(
        heads=spec.Heads(
            num_attention_heads=num_heads,
            num_key_value_heads=config.key_value_heads(num_heads),
            head_dim=head_dim,
            biases=biases,
        ),
        rule=scaled_rule(head_dim, spec.Causal()),
        position=config.rotary(head_dim),
        head_norm=norm if has_head_norm else None,
        dropout=config.rate("attention_dropout"),
    )
    feed_forward = spec.GatedFeedForward(
        intermediate_size=config.integer("intermediate_size"),
        activation=config.activation("hidden_act", "silu"),
        bias=feed_forward_bias,
    )
    windows = windows or [None] * config.num_layers("num_hidden_layers")
    rules = [scaled_rule(head_dim, spec.Causal(window=window)) for window in windows]
    blocks = [
        (
            spec.Residual(core=replace(attention, rule=rule), pre_norm=norm),
            spec.Residual(core=feed_forward, pre_norm=norm),
        )
        for rule in rules
    ]
    return spec.Decoder(
        stack=spec.Stack(
            embedding=spec.TokenEmbedding(
                vocab_size=config.integer("vocab_size"), hidden_size=config.integer("hidden_size")
            ),
            blocks=tuple(blocks),
            final_norm=norm,
            context_length=config.integer("max_position_embeddings", 2048),
        )
    )


def language_head(config: Config) -> spec.LanguageHead:
    """Return the head for the next token."""
    return spec.LanguageHead(tied=config.boolean("tie_word_embeddings", False))


def weights(model: spec.Model, *more: Rename) -> WeightTable:
    """Return the weight table, with the rules `more` of a descendant."""
    # The class with a span head has another name for the backbone.
    prefix = "transformer." if isinstance(model.head, spec.SpanHead) else "model."
    # fmt: off
    return WeightTable(
        prefix=prefix,
        rules=(
            Rename("embed_tokens.weight",                      "embedding.word.weight"),
            Rename("layers.*.input_layernorm.weight",          "blocks.*.attention.pre_norm.weight"),
            Rename("layers.*.self_attn.q_proj.*",              "blocks.*.attention.query.*"),
            Rename("layers.*.self_attn.k_proj.*",              "blocks.*.attention.key.*"),
            Rename("layers.*.self_attn.v_proj.*",              "blocks.*.attention.value.*"),
            Rename("layers.*.self_attn.o_proj.*",              "blocks.*.attention.output.*"),
            Rename("layers.*.post_attention_layernorm.weight", "blocks.*.feed_forward.pre_norm.weight"),
            Rename("layers.*.mlp.gate_proj.*",                 "blocks.*.feed_forward.gate.*"),
            Rename("layers.*.mlp.up_proj.*",                   "blocks.*.feed_forward.up.*"),
            Rename("layers.*.mlp.down_proj.*",                 "blocks.*.feed_forward.down.*"),
            Rename("norm.weight",                              "final_norm.weight"),
            *more,
        ),
        heads=(
            Rename("lm_head.weight",                           "language_head.weight"),
            Rename("score.*",                                  "classification_head.*"),
            Rename("qa_outputs.*",                             "span_head.*"),
        ),
        ignored=("layers.*.self_attn.rotary_emb.inv_freq",),
    )
    # fmt: on


FAMILY = Family(
    model_type="llama",
    architectures={
        "LlamaModel": backbone,
        "LlamaForCausalLM": language_head,
        "LlamaForTokenClassification": token_head,
        "LlamaForSequenceClassification": last_token_head,
        "LlamaForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
)
