"""The cases of the goldens: each a checkpoint, a task, inputs and options. The script and the tests read them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.goldens import checkpoints
from tests.inputs.hard_texts import TEXTS as HARD_TEXTS

TEXTS = [
    "A cat sat on the mat.",
    "Ein Kätzchen saß auf der Matte — 猫がマットの上に座った 🐈. Élan naïve, e\u0301!",
    "Donaudampfschifffahrtsgesellschaftskapitän" * 3,
    "tabs\tand\nnew lines,   many   spaces",
    "x",
]
LONG = " ".join(TEXTS) * 6
"""1500 characters, more tokens than any of the models reads at once."""
HARD = [text for text in HARD_TEXTS if text.strip()]
QUESTION = "Who sat where?"

PREFIXES = {
    "summarization": {
        "prefix": "summarize: ",
        "num_beams": 3,
        "length_penalty": 2.0,
        "max_length": 14,
        "min_length": 4,
    },
    "translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 12, "early_stopping": True},
    "translation_en_to_fr": {"prefix": "translate English to French: ", "num_beams": 2},
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Inputs for one pipeline, each run with every choice of options."""

    name: str
    task: str
    make: Callable[[Path, Path], Path]
    """(folder to write to, folder of the real MiniLM) → checkpoint."""
    inputs: list[Any]
    options: list[dict[str, Any]] = field(default_factory=lambda: [{}])


def _questions(*contexts: str) -> list[dict[str, str]]:
    return [{"question": QUESTION, "context": context} for context in contexts]


ANSWERS: list[dict[str, Any]] = [
    {},
    {"top_k": 5},
    {"top_k": 3, "align_to_words": False},
    {"align_to_words": False},
    {"top_k": 4, "max_answer_len": 3},
    {"top_k": 8, "handle_impossible_answer": True},
    {"handle_impossible_answer": True, "max_answer_len": 1},
]
WINDOWS: list[dict[str, Any]] = [
    {"top_k": 5},
    {"top_k": 5, "doc_stride": 0},
    {"top_k": 5, "max_seq_len": 40, "doc_stride": 7, "max_answer_len": 5},
    {"top_k": 30, "max_seq_len": 64, "handle_impossible_answer": True},
]
GENERATION: list[dict[str, Any]] = [
    {"max_new_tokens": 12, "num_beams": 1},
    {"max_new_tokens": 12, "num_beams": 4},
    {"max_new_tokens": 9, "num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.5},
    {"max_new_tokens": 12, "num_beams": 1, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
]


def _bert(folder: Path, minilm: Path) -> Path:
    return checkpoints.bert_for_answers(folder, minilm)


def _roberta(folder: Path, minilm: Path) -> Path:
    return checkpoints.roberta_for_answers(folder)


def _t5(folder: Path, minilm: Path) -> Path:
    return checkpoints.t5(folder)


def _t5_of_tasks(folder: Path, minilm: Path) -> Path:
    return checkpoints.t5(folder, task_specific_params={name: dict(own) for name, own in PREFIXES.items()})


OF_TASKS: list[dict[str, Any]] = [{"max_new_tokens": 12, "num_beams": 2}, {"max_new_tokens": 8, "num_beams": 4}]
"""The docstring of text2text-generation gives the defaults of beams and length."""

CASES = [
    Case(name="bert", task="question-answering", make=_bert, inputs=_questions(*TEXTS), options=ANSWERS),
    Case(name="bert-hard", task="question-answering", make=_bert, inputs=_questions(*HARD), options=[{"top_k": 3}]),
    Case(
        name="roberta-hard", task="question-answering", make=_roberta, inputs=_questions(*HARD), options=[{"top_k": 3}]
    ),
    Case(
        name="bert-blank-question",
        task="question-answering",
        make=_bert,
        inputs=[{"question": " ", "context": TEXTS[0]}],
    ),
    Case(name="bert-long", task="question-answering", make=_bert, inputs=_questions(LONG), options=WINDOWS),
    Case(name="roberta", task="question-answering", make=_roberta, inputs=_questions(*TEXTS), options=ANSWERS),
    Case(name="roberta-long", task="question-answering", make=_roberta, inputs=_questions(LONG), options=WINDOWS),
    Case(name="t5", task="text2text-generation", make=_t5, inputs=["", " ", *TEXTS], options=GENERATION),
    Case(name="t5-hard", task="text2text-generation", make=_t5, inputs=HARD, options=GENERATION[:1]),
    Case(
        name="t5",
        task="summarization",
        make=_t5_of_tasks,
        inputs=["", *TEXTS],
        options=[{"max_new_tokens": 14}, *OF_TASKS],
    ),
    Case(name="t5", task="translation_en_to_de", make=_t5_of_tasks, inputs=["", *TEXTS], options=OF_TASKS),
    Case(name="t5", task="translation_en_to_fr", make=_t5_of_tasks, inputs=TEXTS[:2], options=[{"max_new_tokens": 9}]),
]
