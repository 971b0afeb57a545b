"""BART: Denoising Sequence-to-Sequence Pre-training. Lewis et al. 2019, arXiv:1910.13461."""

from dataclasses import replace

from triform import spec
from triform.families.kit.attention import biased_heads, encoder_decoder_attention
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, end_token_head, shifted_target, span_head
from triform.weights import Rename, Stack, WeightTable

NORM = spec.LayerNorm(eps=1e-5)


def form(config: Config, architecture: str) -> spec.EncoderDecoder:
    """Return an encoder-decoder with residual norms, learned positions behind an offset of 2, and an embedding norm."""
    config.expect("normalize_embedding", True)
    config.expect("static_position_embeddings", False)
    num_positions = config.integer("max_position_embeddings", 1024)
    position = spec.Learned(num_positions=num_positions + 2, offset=2)
    both = encoder_decoder(config, position, embedding_norm=NORM, context_length=num_positions)
    return replace(both, target=shifted_target(config, architecture))


def encoder_decoder(
    config: Config,
    position: spec.Learned | spec.Sinusoidal,
    *,
    embedding_norm: spec.LayerNorm | None,
    context_length: int,
) -> spec.EncoderDecoder:
    """Return both stacks, for this family and descendants."""
    config.expect("is_encoder_decoder", True)
    config.expect("is_decoder", False)
    config.expect("normalize_before", False)
    config.expect("add_final_layer_norm", False)
    config.expect("tie_word_embeddings", True)
    config.agree("num_hidden_layers", config.num_layers("encoder_layers"), "encoder_layers")
    # Keys of the first releases and their distilled students: settings of the training, or duplicates.
    config.ignore("extra_pos_embeddings", "force_bos_token_to_be_generated", "add_bias_logits")
    config.ignore("replacing_rate", "save_step", "student_decoder_layers", "student_encoder_layers")
    hidden_size = config.integer("d_model")
    embedding = spec.TokenEmbedding(
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden_size,
        scale=hidden_size**0.5 if config.boolean("scale_embedding", False) else 1.0,
        position=position,
        norm=embedding_norm,
        dropout=config.rate("dropout", 0.1),
    )
    encoder, decoder = (
        spec.Stack(
            embedding=embedding,
            blocks=blocks(config, side),
            block_dropout=config.rate(f"{side}_layerdrop"),
            context_length=context_length,
        )
        for side in ("encoder", "decoder")
    )
    return spec.EncoderDecoder(encoder=encoder, decoder=decoder, shares_embedding=True)


def blocks(config: Config, side: str) -> tuple[spec.Block, ...]:
    """Return the blocks of a side, "encoder" or "decoder". Decoder blocks have cross-attention."""
    head_dim = config.quotient("d_model", f"{side}_attention_heads")
    heads = biased_heads(config.integer(f"{side}_attention_heads"), head_dim)
    dropout, is_decoder = config.rate("attention_dropout"), side == "decoder"
    cores = encoder_decoder_attention(heads, head_dim**-0.5, is_decoder=is_decoder, dropout=dropout)
    feed_forward = spec.FeedForward(
        intermediate_size=config.integer(f"{side}_ffn_dim"),
        activation=config.activation("activation_function", "gelu"),
        bias=True,
        dropout=config.rate("activation_dropout"),
    )
    hidden_dropout = config.rate("dropout", 0.1)
    block = tuple(
        spec.Residual(core=core, residual_norm=NORM, dropout=hidden_dropout) for core in (*cores, feed_forward)
    )
    return (block,) * config.num_layers(f"{side}_layers")


def language_head(config: Config) -> spec.LanguageHead:
    """Return the head for the next token of the target."""
    return spec.LanguageHead(tied=True, bias=True)


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table."""
    # fmt: off
    return WeightTable(
        prefix="model.",
        rules=(
            Rename("shared.weight",               "encoder.embedding.word.weight"),
            Rename("encoder.embed_tokens.weight", "encoder.embedding.word.weight"),
            Rename("decoder.embed_tokens.weight", "encoder.embedding.word.weight"),
            *stack_rules("encoder"),
            *stack_rules("decoder"),
        ),
        heads=(
            Rename("lm_head.weight",                 "language_head.weight"),
            Rename("final_logits_bias",              "language_head.bias", layout=(Stack(1),)),
            Rename("classification_head.dense.*",    "pooler.*"),
            Rename("classification_head.out_proj.*", "classification_head.*"),
            Rename("qa_outputs.*",                   "span_head.*"),
        ),
        ignored=("encoder.version", "decoder.version"),
        fixed=("language_head.bias",),
    )
    # fmt: on


def stack_rules(stack: str) -> list[Rename]:
    """Return the rules of a stack, "encoder" or "decoder"."""
    theirs, ours = f"{stack}.layers.*", f"{stack}.blocks.*"
    attentions = {"self_attn": "attention", **({"encoder_attn": "cross_attention"} if stack == "decoder" else {})}
    # fmt: off
    rules = [
        Rename(f"{stack}.embed_positions.weight",  f"{stack}.embedding.position.weight"),
        Rename(f"{stack}.layernorm_embedding.*",   f"{stack}.embedding.norm.*"),
        Rename(f"{theirs}.fc1.*",                  f"{ours}.feed_forward.up.*"),
        Rename(f"{theirs}.fc2.*",                  f"{ours}.feed_forward.down.*"),
        Rename(f"{theirs}.final_layer_norm.*",     f"{ours}.feed_forward.residual_norm.*"),
    ]
    for attention, core in attentions.items():
        rules += [
            Rename(f"{theirs}.{attention}.q_proj.*",     f"{ours}.{core}.query.*"),
            Rename(f"{theirs}.{attention}.k_proj.*",     f"{ours}.{core}.key.*"),
            Rename(f"{theirs}.{attention}.v_proj.*",     f"{ours}.{core}.value.*"),
            Rename(f"{theirs}.{attention}.out_proj.*",   f"{ours}.{core}.output.*"),
            Rename(f"{theirs}.{attention}_layer_norm.*", f"{ours}.{core}.residual_norm.*"),
        ]
    # fmt: on
    return rules


FAMILY = Family(
    model_type="bart",
    architectures={
        "BartModel": backbone,
        "BartForConditionalGeneration": language_head,
        "BartForSequenceClassification": end_token_head,
        "BartForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
)
