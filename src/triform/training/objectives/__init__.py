"""What a model can learn to do: one file for each objective."""

from typing import Any

from triform.training.objectives.causal_lm import CausalLM
from triform.training.objectives.masked_lm import MaskedLM
from triform.training.objectives.question_answering import QuestionAnswering
from triform.training.objectives.sentence_embedding import SentenceEmbedding
from triform.training.objectives.seq2seq import Seq2Seq
from triform.training.objectives.sequence_classification import SequenceClassification
from triform.training.objectives.token_classification import TokenClassification

OBJECTIVES: dict[str, type[Any]] = {
    "masked-lm": MaskedLM,
    "causal-lm": CausalLM,
    "seq2seq": Seq2Seq,
    "sequence-classification": SequenceClassification,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "sentence-embedding": SentenceEmbedding,
}
"""By their names. Each is made of a model, its tokenizer and settings of its own; see `Objective` for the rest."""

__all__ = ["OBJECTIVES"]
