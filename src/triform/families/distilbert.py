"""DistilBERT, a distilled version of BERT. Sanh et al. 2019, arXiv:1910.01108."""

from dataclasses import replace

from triform import spec
from triform.families.kit import heads
from triform.families.kit.attention import scaled_attention
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, first_token_head, masked_language_head
from triform.weights import Rename, WeightTable

NORM = spec.LayerNorm(eps=1e-12)


def form(config: Config, architecture: str) -> spec.Encoder:
    """Return the encoder: BERT with half the layers, no segments and no pooler."""
    config.expect("is_encoder_decoder", False)
    # Sinusoids are only the initial values of the position table.
    config.ignore("sinusoidal_pos_embds", "tie_weights_", "tie_word_embeddings")
    num_heads, head_dim = config.integer("n_heads", 12), config.quotient("dim", "n_heads")
    dropout = config.rate("dropout", 0.1)
    attention = scaled_attention(
        num_heads, head_dim, spec.Bidirectional(), dropout=config.rate("attention_dropout", 0.1)
    )
    feed_forward = spec.FeedForward(
        intermediate_size=config.integer("hidden_dim"), activation=config.activation("activation", "gelu"), bias=True
    )
    num_positions = config.integer("max_position_embeddings", 512)
    embedding = spec.TokenEmbedding(
        vocab_size=config.integer("vocab_size"),
        hidden_size=config.integer("dim"),
        position=spec.Learned(num_positions=num_positions),
        norm=NORM,
        dropout=dropout,
    )
    block = (
        spec.Residual(core=attention, residual_norm=NORM),
        spec.Residual(core=feed_forward, residual_norm=NORM, dropout=dropout),
    )
    return spec.Encoder(
        stack=spec.Stack(
            embedding=embedding, blocks=(block,) * config.num_layers("n_layers", 6), context_length=num_positions
        )
    )


def language_head(config: Config) -> spec.LanguageHead:
    """Return the head for masked tokens."""
    return masked_language_head(config, config.activation("activation", "gelu"), NORM)


def sequence_head(config: Config) -> spec.SequenceHead:
    """Return the classifier of sequences, behind a ReLU."""
    return first_token_head(config, spec.Activation.RELU, dropout=config.rate("seq_classif_dropout", 0.2))


def token_head(config: Config) -> spec.TokenHead:
    """Return the classifier of tokens."""
    return spec.TokenHead(labels=config.labels(), dropout=config.rate("dropout", 0.1))


def span_head(config: Config) -> spec.SpanHead:
    """Return the head for answers."""
    return replace(heads.span_head(config), dropout=config.rate("qa_dropout", 0.1))


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table."""
    # fmt: off
    return WeightTable(
        prefix="distilbert.",
        rules=(
            Rename("embeddings.word_embeddings.weight",       "embedding.word.weight"),
            Rename("embeddings.position_embeddings.weight",   "embedding.position.weight"),
            Rename("embeddings.LayerNorm.*",                  "embedding.norm.*"),
            Rename("transformer.layer.*.attention.q_lin.*",   "blocks.*.attention.query.*"),
            Rename("transformer.layer.*.attention.k_lin.*",   "blocks.*.attention.key.*"),
            Rename("transformer.layer.*.attention.v_lin.*",   "blocks.*.attention.value.*"),
            Rename("transformer.layer.*.attention.out_lin.*", "blocks.*.attention.output.*"),
            Rename("transformer.layer.*.sa_layer_norm.*",     "blocks.*.attention.residual_norm.*"),
            Rename("transformer.layer.*.ffn.lin1.*",          "blocks.*.feed_forward.up.*"),
            Rename("transformer.layer.*.ffn.lin2.*",          "blocks.*.feed_forward.down.*"),
            Rename("transformer.layer.*.output_layer_norm.*", "blocks.*.feed_forward.residual_norm.*"),
        ),
        heads=(
            Rename("vocab_transform.*",                       "language_head.transform.*"),
            Rename("vocab_layer_norm.*",                      "language_head.transform.norm.*"),
            Rename("vocab_projector.*",                       "language_head.*"),
            Rename("pre_classifier.*",                        "pooler.*"),
            Rename("classifier.*",                            "classification_head.*"),
            Rename("qa_outputs.*",                            "span_head.*"),
        ),
        ignored=("embeddings.position_ids",),
    )
    # fmt: on


FAMILY = Family(
    model_type="distilbert",
    architectures={
        "DistilBertModel": backbone,
        "DistilBertForMaskedLM": language_head,
        "DistilBertForTokenClassification": token_head,
        "DistilBertForSequenceClassification": sequence_head,
        "DistilBertForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
)
