"""Unsupervised Cross-lingual Representation Learning at Scale. Conneau et al. 2019, arXiv:1911.02116.

RoBERTa over a hundred languages, with a vocabulary for them all.
"""

from triform.families import bert, roberta
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, span_head

FAMILY = Family(
    model_type="xlm-roberta",
    architectures={
        "XLMRobertaModel": backbone,
        "XLMRobertaForMaskedLM": roberta.language_head,
        "XLMRobertaForTokenClassification": bert.token_head,
        "XLMRobertaForSequenceClassification": roberta.sequence_head,
        "XLMRobertaForQuestionAnswering": span_head,
    },
    form=roberta.form,
    weights=roberta.weights,
)
