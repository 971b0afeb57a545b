"""BERT: Pre-training of Deep Bidirectional Transformers. Devlin et al. 2018, arXiv:1810.04805."""

from triform import spec
from triform.families.kit import heads
from triform.families.kit.attention import scaled_attention
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import (
    backbone,
    first_token_head,
    masked_language_bias,
    masked_language_head,
    span_head,
)
from triform.weights import Rename, WeightTable


def form(config: Config, architecture: str) -> spec.Encoder:
    """Return an encoder with residual norms, learned positions and segments."""
    # Keys of BERT's first release, which the model has never read.
    config.ignore("directionality", "pooler_type", "pooler_fc_size", "pooler_num_attention_heads")
    config.ignore("pooler_num_fc_layers", "pooler_size_per_head")
    positions = spec.Learned(num_positions=config.integer("max_position_embeddings"))
    return encoder(config, positions, num_segments=config.integer("type_vocab_size"))


def encoder(
    config: Config,
    positions: spec.Learned,
    *,
    num_segments: int | None,
    relative_bias: spec.RelativeBias | None = None,
) -> spec.Encoder:
    """Return the encoder, for this family and descendants."""
    config.expect("is_decoder", False)
    config.expect("is_encoder_decoder", False)
    config.expect("add_cross_attention", False)
    config.expect("position_embedding_type", "absolute")
    config.ignore("tie_word_embeddings", "layer_norm_eps")
    num_heads, head_dim = config.integer("num_attention_heads"), config.quotient("hidden_size", "num_attention_heads")
    rate = config.rate("attention_probs_dropout_prob", 0.1)
    attention = scaled_attention(num_heads, head_dim, spec.Bidirectional(), relative_bias, dropout=rate)
    feed_forward = spec.FeedForward(
        intermediate_size=config.integer("intermediate_size"), activation=config.activation("hidden_act"), bias=True
    )
    cores = (attention, feed_forward)
    block = tuple(spec.Residual(core=core, residual_norm=norm(config), dropout=dropout(config)) for core in cores)
    embedding = spec.TokenEmbedding(
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("hidden_size"),
        position=positions,
        num_segments=num_segments,
        norm=norm(config),
        dropout=dropout(config),
    )
    return spec.Encoder(
        stack=spec.Stack(
            embedding=embedding,
            blocks=(block,) * config.num_layers("num_hidden_layers"),
            context_length=positions.num_positions - positions.offset,
        )
    )


def norm(config: Config) -> spec.LayerNorm:
    """Return the norm of all layers."""
    return spec.LayerNorm(eps=config.number("layer_norm_eps", 1e-12))


def dropout(config: Config) -> float:
    """Return the dropout rate of all layers but attention."""
    return config.rate("hidden_dropout_prob", 0.1)


def language_head(config: Config) -> spec.LanguageHead:
    """Return the head for masked tokens."""
    return masked_language_head(config, config.activation("hidden_act"), norm(config))


def sequence_head(config: Config) -> spec.SequenceHead:
    """Return the classifier of sequences, behind a tanh pooler."""
    return first_token_head(config, spec.Activation.TANH, dropout=config.rate("classifier_dropout", dropout(config)))


def token_head(config: Config) -> spec.TokenHead:
    """Return the classifier of tokens."""
    return heads.token_head(config, dropout(config))


# fmt: off
BACKBONE = (
    Rename("embeddings.word_embeddings.weight",            "embedding.word.weight"),
    Rename("embeddings.token_type_embeddings.weight",      "embedding.segment.weight"),
    Rename("embeddings.position_embeddings.weight",        "embedding.position.weight"),
    Rename("embeddings.LayerNorm.*",                       "embedding.norm.*"),
    Rename("encoder.layer.*.attention.self.query.*",       "blocks.*.attention.query.*"),
    Rename("encoder.layer.*.attention.self.key.*",         "blocks.*.attention.key.*"),
    Rename("encoder.layer.*.attention.self.value.*",       "blocks.*.attention.value.*"),
    Rename("encoder.layer.*.attention.output.dense.*",     "blocks.*.attention.output.*"),
    Rename("encoder.layer.*.attention.output.LayerNorm.*", "blocks.*.attention.residual_norm.*"),
    Rename("encoder.layer.*.intermediate.dense.*",         "blocks.*.feed_forward.up.*"),
    Rename("encoder.layer.*.output.dense.*",               "blocks.*.feed_forward.down.*"),
    Rename("encoder.layer.*.output.LayerNorm.*",           "blocks.*.feed_forward.residual_norm.*"),
)
# fmt: on


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table."""
    biases, unused = masked_language_bias(model, "cls.predictions.bias", "cls.predictions.decoder.bias")
    # fmt: off
    return WeightTable(
        prefix="bert.",
        old_names={"gamma": "weight", "beta": "bias"},
        rules=(
            *BACKBONE,
            Rename("pooler.dense.*",                               "pooler.*"),
        ),
        heads=(
            Rename("cls.predictions.transform.dense.*",            "language_head.transform.*"),
            Rename("cls.predictions.transform.LayerNorm.*",        "language_head.transform.norm.*"),
            Rename("cls.predictions.decoder.weight",               "language_head.weight"),
            *biases,
            Rename("classifier.*",                                 "classification_head.*"),
            Rename("qa_outputs.*",                                 "span_head.*"),
        ),
        ignored=("embeddings.position_ids", "cls.seq_relationship.*", "pooler.dense.*", *unused),
    )
    # fmt: on


FAMILY = Family(
    model_type="bert",
    architectures={
        "BertModel": backbone,
        "BertForMaskedLM": language_head,
        "BertForPreTraining": language_head,
        "BertForTokenClassification": token_head,
        "BertForSequenceClassification": sequence_head,
        "BertForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
)
