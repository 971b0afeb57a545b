"""MPNet: Masked and Permuted Pre-training for Language Understanding. Song et al. 2020, arXiv:2004.09297."""

from triform import spec
from triform.families import bert, roberta
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, span_head
from triform.weights import Rename, WeightTable


def form(config: Config, architecture: str) -> spec.Encoder:
    """Return an encoder as BERT's, without segments, with a shared relative bias."""
    # In the reference implementation positions begin at 2, for any pad_token_id; buckets are 32, and tokens 128.
    positions = spec.Learned(num_positions=config.integer("max_position_embeddings"), offset=2)
    config.expect("relative_attention_num_buckets", 32)
    bias = spec.RelativeBias(num_buckets=32, max_distance=128, bidirectional=True, shared=True)
    return bert.encoder(config, positions, num_segments=None, relative_bias=bias)


# fmt: off
BACKBONE = (
    Rename("embeddings.word_embeddings.weight",       "embedding.word.weight"),
    Rename("embeddings.position_embeddings.weight",   "embedding.position.weight"),
    Rename("embeddings.LayerNorm.*",                  "embedding.norm.*"),
    Rename("encoder.relative_attention_bias.weight",  "relative_bias.weight"),
    Rename("encoder.layer.*.attention.attn.q.*",      "blocks.*.attention.query.*"),
    Rename("encoder.layer.*.attention.attn.k.*",      "blocks.*.attention.key.*"),
    Rename("encoder.layer.*.attention.attn.v.*",      "blocks.*.attention.value.*"),
    Rename("encoder.layer.*.attention.attn.o.*",      "blocks.*.attention.output.*"),
    Rename("encoder.layer.*.attention.LayerNorm.*",   "blocks.*.attention.residual_norm.*"),
    Rename("encoder.layer.*.intermediate.dense.*",    "blocks.*.feed_forward.up.*"),
    Rename("encoder.layer.*.output.dense.*",          "blocks.*.feed_forward.down.*"),
    Rename("encoder.layer.*.output.LayerNorm.*",      "blocks.*.feed_forward.residual_norm.*"),
)
# fmt: on


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table."""
    return roberta.table(model, prefix="mpnet.", backbone=BACKBONE)


FAMILY = Family(
    model_type="mpnet",
    architectures={
        "MPNetModel": backbone,
        "MPNetForMaskedLM": roberta.language_head,
        "MPNetForTokenClassification": bert.token_head,
        "MPNetForSequenceClassification": roberta.sequence_head,
        "MPNetForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
)
