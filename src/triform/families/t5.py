"""T5: Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer. Raffel et al. 2020.

v1.1 and Flan-T5 gate the feed-forward and do not scale the output (arXiv:1910.10683, arXiv:2210.11416).
"""

from triform import spec
from triform.families.kit.attention import encoder_decoder_attention
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, end_token_head, source_again, span_head, token_head
from triform.families.kit.initialization import by_fan_in
from triform.weights import Rename, Table

ENCODER_ALONE = {"T5EncoderModel", "T5ForTokenClassification"}
READS_SOURCE_AGAIN = {"T5ForSequenceClassification", "T5ForQuestionAnswering"}


def form(config: Config, architecture: str) -> spec.EncoderDecoder | spec.Encoder:
    """Pre-norms by root mean square, one relative bias for each stack, no scale on the scores."""
    config.expect("is_encoder_decoder", True, False)
    config.expect("is_decoder", False)
    # n_positions is the length of pretraining; relative positions know no limit.
    config.ignore("tie_word_embeddings", "scale_decoder_outputs", "dense_act_fn", "is_gated_act", "n_positions")
    num_layers = config.num_layers("num_layers", 6)
    encoder = stack(config, num_layers, is_decoder=False)
    decoder = stack(config, config.num_layers("num_decoder_layers", num_layers), is_decoder=True)
    if architecture in ENCODER_ALONE:
        return spec.Encoder(stack=encoder)
    target = source_again(config) if architecture in READS_SOURCE_AGAIN else None
    return spec.EncoderDecoder(encoder=encoder, decoder=decoder, shares_embedding=True, target=target)


def stack(config: Config, num_layers: int, *, is_decoder: bool) -> spec.Stack:
    """The encoder, or the decoder with its cross-attention."""
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
    embedding = spec.Embedding(vocab_size=vocab_size, hidden_size=hidden_size, dropout=dropout)
    return spec.Stack(embedding=embedding, blocks=(block,) * num_layers, final_norm=norm, dropout=dropout)


def feed_forward(config: Config, dropout: float) -> spec.FeedForward | spec.GatedFeedForward:
    """`feed_forward_proj` is an activation, or `gated-` and an activation."""
    kind = config.string("feed_forward_proj", "relu")
    name = kind.removeprefix("gated-")
    # "gated-gelu" has always meant the tanh approximation.
    activation = config.named_activation("feed_forward_proj", "gelu_new" if kind == "gated-gelu" else name)
    form = spec.GatedFeedForward if kind.startswith("gated-") else spec.FeedForward
    return form(intermediate_size=config.integer("d_ff"), activation=activation, bias=False, dropout=dropout)


def language_head(config: Config) -> spec.LanguageHead:
    """The next token of the target.

    `tie_word_embeddings` false is how v1.1 says not to scale; that its head is untied shows in the checkpoint.
    """
    scaled = config.boolean("scale_decoder_outputs", config.boolean("tie_word_embeddings", True))
    return spec.LanguageHead(tied=True, scale=config.integer("d_model") ** -0.5 if scaled else 1.0)


def weights(model: spec.Model) -> Table:
    """The names of the tensors."""
    alone = isinstance(model.form, spec.Encoder)
    encoder = "" if alone else "encoder."
    # One of tokens has another name than one of sequences.
    classifier = "classification_head.out_proj" if isinstance(model.head, spec.SequenceHead) else "classifier"
    gated = isinstance(model.input_stack.blocks[0][-1].core, spec.GatedFeedForward)
    # fmt: off
    return Table(
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
    """The names in one stack. Its feed-forward is layer 1 of each block, or 2 behind the decoder's cross-attention."""
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
