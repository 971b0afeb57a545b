"""Objectives, a file for each."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from triform.errors import InputError, shown
from triform.training.objective import Objective

OBJECTIVES: Mapping[str, str] = {
    "masked-lm": "masked_lm:MaskedLM",
    "causal-lm": "causal_lm:CausalLM",
    "seq2seq": "seq2seq:Seq2Seq",
    "sequence-classification": "sequence_classification:SequenceClassification",
    "token-classification": "token_classification:TokenClassification",
    "question-answering": "question_answering:QuestionAnswering",
    "sentence-embedding": "sentence_embedding:SentenceEmbedding",
}
"""Name → module and class, imported when the objective is asked for."""


def find_objective(name: Any) -> type[Objective[Any]]:
    """Find an objective by name.

    Raises:
        InputError: no objective has this name.
    """
    if name not in OBJECTIVES:
        raise InputError(f"objective: name = {shown(name)}: expected one of {', '.join(OBJECTIVES)}.")
    module, _, kind = OBJECTIVES[name].partition(":")
    found: type[Objective[Any]] = getattr(import_module(f"{__name__}.{module}"), kind)
    return found


__all__ = ["OBJECTIVES", "find_objective"]
