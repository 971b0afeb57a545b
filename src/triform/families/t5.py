"""T5: Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer. Raffel et al. 2020.

T5 v1.1 and Flan-T5 have a gated feed-forward and do not scale the output (arXiv:1910.10683, arXiv:2210.11416).
"""

from triform import spec
from triform.families.kit.attention import encoder_decoder_attention
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, end_token_head, shifted_target, span_head, token_head
from triform.families.kit.initialization import by_fan_in
from triform.weights import Rename, WeightTable

ENCODER_ALONE = {"T5EncoderModel", "T5ForTokenClassification"}


def form(config: Config, architecture: str) -> spec.EncoderDecoder | spec.Encoder:
    """Return stacks with RMSNorm before each layer, one relative bias for each stack, and unscaled attention scores."""
    config.expect("is_encoder_decoder", True, *([False] if architecture in ENCODER_ALONE else []))
    config.expect("is_decoder", False)
    # n_positions is the length of the pretraining; relative positions have no limit.
    config.ignore("tie_word_embeddings", "scale_decoder_outputs", "n_positions")
    num_layers = config.num_layers("num_layers", 6)
    encoder = stack(config, num_layers, is_decoder=False)
    decoder = stack(config, config.num_layers("num_decoder_layers", num_layers), is_decoder=True)
    if architecture in ENCODER_ALONE:
        return spec.Encoder(stack=encoder)
    target = shifted_target(config, architecture)
    return spec.EncoderDecoder(encoder=encoder, decoder=decoder, shares_embedding=True, target=target)


def stack(config: Config, num_layers: int, *, is_decoder: bool) -> spec.Stack:
    """Return the encoder, or the decoder with cross-attention."""
    norm = spec.RMSNorm(eps=config.number("layer_norm_epsilon", 1e-6))
    num_heads, dropout = config.integer("num_heads"), config.rate("dropout_rate", 0.1)
    heads = spec.Heads(num_attention_heads=num_heads, num_key_value_heads=num_heads, head_dim=config.integer("d_kv"))
    num_buckets = config.integer("relative_attention_num_buckets", 32)
    max_distance = config.integer("relative_attention_max_distance", 128)
    if num_buckets < 4 or max_distance <= num_buckets // 2:
        config.refuse(
            "relative_attention_num_buckets", f"at least 4, and below twice the maximum distance {max_distance}"
        )
    position = spec.RelativeBias(
        num_buckets=num_buckets, max_distance=max_distance, bidirectional=not is_decoder, shared=True
    )
    cores = encoder_decoder_attention(heads, 1.0, is_decoder=is_decoder, position=position, dropout=dropout)
    cores.append(feed_forward(config, dropout))
    block = tuple(spec.Residual(core=core, pre_norm=norm, dropout=dropout) for core in cores)
    vocab_size, hidden_size = config.integer("vocab_size"), config.integer("d_model")
    embedding = spec.TokenEmbedding(vocab_size=vocab_size, hidden_size=hidden_size, dropout=dropout)
    return spec.Stack(embedding=embedding, blocks=(block,) * num_layers, final_norm=norm, dropout=dropout)


def feed_forward(config: Config, dropout: float) -> spec.FeedForward | spec.GatedFeedForward:
    """Return the feed-forward of `feed_forward_proj`, an activation, or `gated-` and an activation."""
    kind = config.string("feed_forward_proj", "relu")
    name = kind.removeprefix("gated-")
    # "gated-gelu" has always meant the tanh approximation.
    name = "gelu_new" if kind == "gated-gelu" else name
    activation = config.named_activation("feed_forward_proj", name)
    config.agree("dense_act_fn", name, "feed_forward_proj")
    config.agree("is_gated_act", kind.startswith("gated-"), "feed_forward_proj")
    form = spec.GatedFeedForward if kind.startswith("gated-") else spec.FeedForward
    return form(intermediate_size=config.integer("d_ff"), activation=activation, bias=False, dropout=dropout)


def language_head(config: Config) -> spec.LanguageHead:
    """Return the head for the next token of the target.

    `tie_word_embeddings` false turns the scale off, as in v1.1. An untied head shows in the checkpoint.
    """
    scaled = config.boolean("scale_decoder_outputs", config.boolean("tie_word_embeddings", True))
    return spec.LanguageHead(tied=True, scale=config.integer("d_model") ** -0.5 if scaled else 1.0)


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table."""
    alone = isinstance(model.form, spec.Encoder)
    encoder = "" if alone else "encoder."
    # The classifier of tokens and the classifier of sequences have different names.
    classifier = "classification_head.out_proj" if isinstance(model.head, spec.SequenceHead) else "classifier"
    gated = isinstance(model.input_stack.blocks[0][-1].core, spec.GatedFeedForward)
    # fmt: off
    return WeightTable(
        prefix="" if isinstance(model.head, spec.LanguageHead | spec.SpanHead) else "transformer.",
        rules=(
            Rename("shared.weight",               f"{encoder}embedding.word.weight"),
            Rename("encoder.embed_tokens.weight", f"{encoder}embedding.word.weight"),
            Rename("decoder.embed_tokens.weight", f"{encoder}embedding.word.weight"),
            *stack_rules("encoder", encoder, gated=gated),
            *([] if alone else stack_rules("decoder", "decoder.", gated=gated)),
        ),
        heads=(
            Rename("lm_head.weight",              "language_head.weight"),
            Rename("classification_head.dense.*", "pooler.*"),
            Rename(f"{classifier}.*",             "classification_head.*"),
            Rename("qa_outputs.*",                "span_head.*"),
        ),
        ignored=(
            "decoder.block.*.layer.1.EncDecAttention.relative_attention_bias.weight",
            *(["decoder.*"] if alone else []),
        ),
    )
    # fmt: on


def stack_rules(stack: str, canonical: str, *, gated: bool) -> list[Rename]:
    """Return the rules of a stack. The feed-forward is layer 1 of each block, in the decoder layer 2."""
    theirs, ours = f"{stack}.block.*.layer", f"{canonical}blocks.*"
    attentions = [("0.SelfAttention", "attention"), ("1.EncDecAttention", "cross_attention")]
    last = 2 if stack == "decoder" else 1
    # fmt: off
    rules = [
        Rename(f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
               f"{canonical}relative_bias.weight"),
        Rename(f"{theirs}.{last}.layer_norm.weight",        f"{ours}.feed_forward.pre_norm.weight"),
        Rename(f"{theirs}.{last}.DenseReluDense.wo.weight", f"{ours}.feed_forward.down.weight"),
        Rename(f"{stack}.final_layer_norm.weight",          f"{canonical}final_norm.weight"),
    ]
    inner = {"wi_0": "gate", "wi_1": "up"} if gated else {"wi": "up"}
    rules += [
        Rename(f"{theirs}.{last}.DenseReluDense.{wi}.weight", f"{ours}.feed_forward.{linear}.weight")
        for wi, linear in inner.items()
    ]
    for attention, core in attentions[:last]:
        rules += [
            Rename(f"{theirs}.{attention[0]}.layer_norm.weight", f"{ours}.{core}.pre_norm.weight"),
            Rename(f"{theirs}.{attention}.q.weight",             f"{ours}.{core}.query.weight"),
            Rename(f"{theirs}.{attention}.k.weight",             f"{ours}.{core}.key.weight"),
            Rename(f"{theirs}.{attention}.v.weight",             f"{ours}.{core}.value.weight"),
            Rename(f"{theirs}.{attention}.o.weight",             f"{ours}.{core}.output.weight"),
        ]
    # fmt: on
    return rules


FAMILY = Family(
    model_type="t5",
    architectures={
        "T5Model": backbone,
        "T5ForConditionalGeneration": language_head,
        "T5EncoderModel": backbone,
        "T5ForTokenClassification": lambda config: token_head(config, 0.0),
        "T5ForSequenceClassification": end_token_head,
        "T5ForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
    initialization=by_fan_in,
)
