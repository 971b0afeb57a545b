"""Evaluation: answers of a task on rows with known answers → scores. Needs no torch."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from triform import spec
from triform.data import Row
from triform.errors import InputError
from triform.inputs import Batch, EncodedText, pack_texts
from triform.tasks import Task
from triform.tasks.text_task import TextTask
from triform.training import metrics
from triform.training.metrics import Scores

Pipeline = TextTask[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationPlan:
    """Plan for scoring the answers of some tasks."""

    tasks: tuple[str, ...]
    """Names of the tasks."""
    rows: str
    """Fields of a row, for people."""
    scores: tuple[str, ...]
    """Names of all scores; the problem of a model decides which of them it gets."""
    evaluate: Callable[[Pipeline, Sequence[Row]], Scores]
    """Answers some rows by the task, and scores the answers."""


def find_plan(task: str) -> EvaluationPlan:
    """Find the evaluation plan of a task by the task's name.

    Raises:
        InputError: the task has no scores.
    """
    known = {name: plan for plan in PLANS for name in plan.tasks}
    if task not in known:
        raise InputError(f"{task} has no scores. Choose one of {', '.join(known)}.")
    return known[task]


def evaluate(task: Task[Any, Any], rows: Iterable[Row]) -> Scores:
    """Score the answers of a task to rows with known answers.

    Arguments:
        task: as `triform.pipeline` makes it.
        rows: what a row must hold, `find_plan(task.name).rows` says.

    Raises:
        InputError: a row lacks a field or cannot be answered, rows is empty, or the task has no scores.
    """
    plan = find_plan(task.name)
    assert isinstance(task, TextTask), "plans are for tasks of text"
    found = list(rows)
    if not found:
        raise InputError("There is nothing to evaluate on: the files hold no row.")
    return plan.evaluate(task, found)


def _classification(task: Pipeline, rows: Sequence[Row]) -> Scores:
    head = task.model.spec.head
    assert isinstance(head, spec.SequenceHead)
    inputs = [_text_or_pair(row) for row in rows]
    if head.problem is spec.Problem.REGRESSION:
        return metrics.correlation([answer["score"] for answer in task(inputs)], [_number(row) for row in rows])
    if head.problem is spec.Problem.SINGLE_LABEL:
        gold = [_label(row, read_field(row, "label"), head.labels) for row in rows]
        return metrics.single_label([answer["label"] for answer in task(inputs)], gold)
    likely = [{each["label"] for each in answer if each["score"] > 0.5} for answer in task(inputs, top_k=None)]
    right = [{_label(row, label, head.labels) for label in read_field(row, "labels")} for row in rows]
    as_numbers = [[[int(label in own) for label in head.labels] for own in side] for side in (likely, right)]
    return metrics.multi_label(*as_numbers)


def _token_classification(task: Pipeline, rows: Sequence[Row]) -> Scores:
    texts = [" ".join(read_field(row, "tokens")) for row in rows]
    answers = task(texts, aggregation_strategy="none", ignore_labels=[])
    tags = [_first_tags(read_field(row, "tokens"), answer) for row, answer in zip(rows, answers, strict=True)]
    return metrics.entities(tags, [read_field(row, "tags") for row in rows])


def _first_tags(words: Sequence[str], answer: Sequence[Mapping[str, Any]]) -> list[str]:
    """Find the tag of each word's first token; O for a word without tokens."""
    ends = np.cumsum([len(word) + 1 for word in words])
    tags: dict[int, str] = {}
    for token in answer:
        # A token may begin with the space before its word, but ends in the word.
        tags.setdefault(int(np.searchsorted(ends, token["end"] - 1, side="right")), token["entity"])
    return [tags.get(number, "O") for number in range(len(words))]


def _question_answering(task: Pipeline, rows: Sequence[Row]) -> Scores:
    inputs = [{"question": read_field(row, "question"), "context": read_field(row, "context")} for row in rows]
    gold = [row.values["answers"] if "answers" in row.values else [read_field(row, "answer")] for row in rows]
    return metrics.spans([answer["answer"] for answer in task(inputs)], gold)


def _similarity(task: Pipeline, rows: Sequence[Row]) -> Scores:
    gold = [_number(row) for row in rows]
    if task.name == "sentence-similarity":
        inputs = [
            {"source_sentence": read_field(row, "text"), "sentences": [read_field(row, "text_pair")]} for row in rows
        ]
        return metrics.correlation([answer[0] for answer in task(inputs)], gold)
    first, second = (task([read_field(row, field) for row in rows]) for field in ("text", "text_pair"))
    products = (first * second).sum(axis=1)
    cosines = products / np.maximum(np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1), 1e-12)
    return metrics.correlation(cosines.tolist(), gold)


def _generation(task: Pipeline, rows: Sequence[Row]) -> Scores:
    sources, targets = ([read_field(row, field) for row in rows] for field in ("source", "target"))
    return metrics.translation([next(iter(answer.values())) for answer in task(sources)], targets)


def _next_tokens(task: Pipeline, rows: Sequence[Row]) -> Scores:
    """Score the predictions of next tokens."""
    surprises: list[float] = []
    for batch in _batches(task, rows):
        is_target = np.ones(len(batch.ids), bool)
        is_target[batch.spans.ends - 1] = False
        at = np.flatnonzero(is_target)
        surprises += _surprises(task, batch, at, batch.ids[at + 1])
    return metrics.perplexity(surprises)


MASKED = 0.15
"""Share of tokens that are masked (Devlin et al. 2019, section 3.1)."""


def _masked_tokens(task: Pipeline, rows: Sequence[Row]) -> Scores:
    """Score the predictions of masked tokens, the same tokens in every evaluation."""
    token = task.tokenizer.special("mask_token")
    mask = None if token is None else task.tokenizer.id_of(token)
    if mask is None:
        raise InputError("The tokenizer has no mask_token, which fill-mask needs.")
    rng = np.random.default_rng(0)
    surprises: list[float] = []
    for batch in _batches(task, rows):
        texts = batch.sources_of(EncodedText)
        is_word = np.array([sequence is not None for text in texts for sequence in text.sequence_ids])
        at = np.flatnonzero(is_word & (rng.random(len(is_word)) < MASKED))
        if len(at):
            ids = batch.ids.copy()
            ids[at] = mask
            surprises += _surprises(task, replace(batch, ids=ids), at, batch.ids[at])
    return metrics.perplexity(surprises)


def _batches(task: Pipeline, rows: Sequence[Row]) -> Iterator[Batch]:
    texts = task.tokenizer.encode([read_field(row, "text") for row in rows], max_length=task.limit())
    return pack_texts([text for text in texts if len(text.ids) > 1]).split(task.options.token_budget)


def _surprises(task: Pipeline, batch: Batch, at: Any, ids: Any) -> list[float]:
    """Compute the negative log-probability, in nats, of ids (n,) at rows `at` (n,) of a batch."""
    logits = task.model(batch, logits_at=at).logits
    log_probabilities = task.model.engine.to_numpy(task.model.engine.log_softmax(logits))
    nats: list[float] = (-log_probabilities[np.arange(len(at)), ids]).tolist()
    return nats


def read_field(row: Row, field: str) -> Any:
    """Read a field of a row.

    Raises:
        InputError: the row has no such field.
    """
    if field not in row.values:
        raise InputError(f"{row.where}: there is no {field} among {', '.join(row.values)}. Name its column.")
    return row.values[field]


def _text_or_pair(row: Row) -> Any:
    text = read_field(row, "text")
    return {"text": text, "text_pair": row.values["text_pair"]} if "text_pair" in row.values else text


def _label(row: Row, given: Any, labels: Sequence[str]) -> str:
    """Find a label by name or by number."""
    if str(given) in labels:
        return str(given)
    if str(given).isdecimal() and int(given) < len(labels):
        return labels[int(given)]
    raise InputError(f"{row.where}: label {given!r} is none of the model's: {', '.join(labels)}.")


def _number(row: Row) -> float:
    field = "score" if "score" in row.values else "label"
    try:
        return float(read_field(row, field))
    except (TypeError, ValueError) as error:
        raise InputError(f"{row.where}: {field} = {row.values[field]!r} is not a number.") from error


PLANS = (
    EvaluationPlan(
        tasks=("text-classification",),
        rows="text, perhaps text_pair; label, labels or score",
        scores=("accuracy", "macro_f1", "micro_f1", "matthews", "spearman", "pearson"),
        evaluate=_classification,
    ),
    EvaluationPlan(
        tasks=("token-classification",),
        rows="tokens, tags",
        scores=("f1", "precision", "recall", "accuracy"),
        evaluate=_token_classification,
    ),
    EvaluationPlan(
        tasks=("question-answering",),
        rows="question, context; answer or answers",
        scores=("exact_match", "f1"),
        evaluate=_question_answering,
    ),
    EvaluationPlan(
        tasks=("sentence-embedding", "sentence-similarity"),
        rows="text, text_pair; score",
        scores=("spearman", "pearson"),
        evaluate=_similarity,
    ),
    EvaluationPlan(tasks=("text-generation",), rows="text", scores=("loss", "perplexity"), evaluate=_next_tokens),
    EvaluationPlan(tasks=("fill-mask",), rows="text", scores=("loss", "perplexity"), evaluate=_masked_tokens),
    EvaluationPlan(
        tasks=("text2text-generation", "summarization", "translation"),
        rows="source; target",
        scores=("bleu", "chrf"),
        evaluate=_generation,
    ),
)
"""All evaluation plans; each task is in at most one."""
