"""RoBERTa: A Robustly Optimized BERT Pretraining Approach. Liu et al. 2019, arXiv:1907.11692."""

from dataclasses import replace

from triform import spec
from triform.families import bert
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, span_head
from triform.weights import Rename, WeightTable


def form(config: Config, architecture: str) -> spec.Encoder:
    """BERT, with positions that begin behind the padding's id."""
    num_positions = config.integer("max_position_embeddings")
    offset = config.integer("pad_token_id", 1, minimum=0) + 1
    if offset >= num_positions:
        config.refuse("pad_token_id", f"less than {num_positions - 1}, or max_position_embeddings leaves no position")
    positions = spec.Learned(num_positions=num_positions, offset=offset)
    return bert.encoder(config, positions, num_segments=config.integer("type_vocab_size"))


def language_head(config: Config) -> spec.LanguageHead:
    """Masked tokens; the transform is GELU whatever the blocks have."""
    transform = spec.Transform(activation=spec.Activation.GELU, norm=bert.norm(config))
    return spec.LanguageHead(tied=config.boolean("tie_word_embeddings", True), bias=True, transform=transform)


def sequence_head(config: Config) -> spec.SequenceHead:
    """BERT's, with the pooled vector dropped from as well."""
    head = bert.sequence_head(config)
    return replace(head, pooled_dropout=head.dropout)


def weights(model: spec.Model) -> WeightTable:
    """The names of the tensors."""
    return table(model, prefix="roberta.", backbone=bert.BACKBONE)


def table(model: spec.Model, *, prefix: str, backbone: tuple[Rename, ...]) -> WeightTable:
    """A backbone's names with the heads of this family."""
    tied = not isinstance(model.head, spec.LanguageHead) or model.head.tied
    biases = ("lm_head.bias", "lm_head.decoder.bias")
    # fmt: off
    return WeightTable(
        prefix=prefix,
        rules=backbone,
        heads=(
            Rename("lm_head.dense.*",          "language_head.transform.*"),
            Rename("lm_head.layer_norm.*",     "language_head.transform.norm.*"),
            Rename("lm_head.decoder.weight",   "language_head.weight"),
            *(Rename(bias, "language_head.bias") for bias in (biases if tied else biases[::-1])),
            *classification_rules(model),
            Rename("qa_outputs.*",             "span_head.*"),
        ),
        ignored=("embeddings.position_ids", "pooler.dense.*", *(() if tied else biases[:1])),
    )
    # fmt: on


def classification_rules(model: spec.Model) -> list[Rename]:
    """One name for two heads: of tokens a linear, of sequences two of them."""
    if isinstance(model.head, spec.TokenHead):
        return [Rename("classifier.*", "classification_head.*")]
    return [
        Rename("classifier.dense.*", "pooler.*"),
        Rename("classifier.out_proj.*", "classification_head.*"),
        Rename("classifier.*", "classification_head.*"),
    ]


FAMILY = Family(
    model_type="roberta",
    architectures={
        "RobertaModel": backbone,
        "RobertaForMaskedLM": language_head,
        "RobertaForTokenClassification": bert.token_head,
        "RobertaForSequenceClassification": sequence_head,
        "RobertaForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
)
