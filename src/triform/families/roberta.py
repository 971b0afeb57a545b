"""RoBERTa: A Robustly Optimized BERT Pretraining Approach. Liu et al. 2019, arXiv:1907.11692."""

from dataclasses import replace

from triform import spec
from triform.families import bert
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, masked_language_bias, masked_language_head, span_head
from triform.weights import Rename, WeightTable


def form(config: Config, architecture: str) -> spec.Encoder:
    """Return an encoder as BERT's. Positions begin behind the id of the padding."""
    num_positions = config.integer("max_position_embeddings")
    padding = config.integer("pad_token_id", 1, minimum=0)
    offset = padding + 1
    if offset >= num_positions:
        config.refuse("pad_token_id", f"less than {num_positions - 1}, or max_position_embeddings leaves no position")
    positions = spec.Learned(num_positions=num_positions, offset=offset, padding=padding)
    return bert.encoder(config, positions, num_segments=config.integer("type_vocab_size"))


def language_head(config: Config) -> spec.LanguageHead:
    """Return the head for masked tokens. The activation is GELU, for any activation of the blocks."""
    return masked_language_head(config, spec.Activation.GELU, bert.norm(config))


def sequence_head(config: Config) -> spec.SequenceHead:
    """Return the classifier of BERT, with dropout also behind the pooler."""
    head = bert.sequence_head(config)
    return replace(head, pooled_dropout=head.dropout)


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table."""
    return table(model, prefix="roberta.", backbone=bert.BACKBONE)


def table(model: spec.Model, *, prefix: str, backbone: tuple[Rename, ...]) -> WeightTable:
    """Return the weight table of a backbone with the heads of this family."""
    biases, unused = masked_language_bias(model, "lm_head.bias", "lm_head.decoder.bias")
    # fmt: off
    return WeightTable(
        prefix=prefix,
        rules=backbone,
        heads=(
            Rename("lm_head.dense.*",          "language_head.transform.*"),
            Rename("lm_head.layer_norm.*",     "language_head.transform.norm.*"),
            Rename("lm_head.decoder.weight",   "language_head.weight"),
            *biases,
            *classification_rules(model),
            Rename("qa_outputs.*",             "span_head.*"),
        ),
        ignored=("embeddings.position_ids", "pooler.dense.*", *unused),
    )
    # fmt: on


def classification_rules(model: spec.Model) -> list[Rename]:
    """Return the rules of the classifier: a linear for tokens, two linears of the same name for sequences."""
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
