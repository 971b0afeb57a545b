"""How good a model is at a task: rows with what is right → answers of the task's pipeline → scores. Needs no torch.

| task | a row holds | scores |
|---|---|---|
| text-classification | text, text_pair; label, labels or score | accuracy, macro F1, Matthews; or Spearman, Pearson |
| token-classification | tokens, tags | F1, precision and recall of entities, accuracy |
| question-answering | question, context; answer, or answers | exact match, F1 |
| sentence-embedding, sentence-similarity | text, text_pair; score | Spearman, Pearson |
| text-generation, fill-mask | text | loss, perplexity |
| text2text-generation, summarization, translation | source; target | BLEU, chrF |
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from triform import spec
from triform.data import Row
from triform.errors import InputError
from triform.inputs import Batch
from triform.tasks import Task
from triform.training import metrics
from triform.training.metrics import Scores

Pipeline = Task[Any, Any]


def evaluate(task: Pipeline, rows: Iterable[Row]) -> Scores:
    """The scores of a task on rows.

    Raises:
        InputError: a row that lacks something or cannot be answered, no row at all, or a task without scores.
    """
    if task.name not in SCORES:
        raise InputError(f"{task.name} has no scores. Choose one of {', '.join(SCORES)}.")
    found = list(rows)
    if not found:
        raise InputError("There is nothing to evaluate on: the files hold no row.")
    return SCORES[task.name](task, found)


def _classification(task: Pipeline, rows: Sequence[Row]) -> Scores:
    head = task.model.spec.head
    assert isinstance(head, spec.SequenceHead)
    inputs = [_text_or_pair(row) for row in rows]
    if head.problem is spec.Problem.REGRESSION:
        return metrics.correlation([answer["score"] for answer in task(inputs)], [_number(row) for row in rows])
    if head.problem is spec.Problem.SINGLE_LABEL:
        gold = [_label(row, get(row, "label"), head.labels) for row in rows]
        return metrics.single_label([answer["label"] for answer in task(inputs)], gold)
    likely = [{each["label"] for each in answer if each["score"] > 0.5} for answer in task(inputs, top_k=None)]
    right = [{_label(row, label, head.labels) for label in get(row, "labels")} for row in rows]
    as_numbers = [[[int(label in own) for label in head.labels] for own in side] for side in (likely, right)]
    return metrics.multi_label(*as_numbers)


def _token_classification(task: Pipeline, rows: Sequence[Row]) -> Scores:
    texts = [" ".join(get(row, "tokens")) for row in rows]
    answers = task(texts, aggregation_strategy="none", ignore_labels=[])
    tags = [_first_tags(get(row, "tokens"), answer) for row, answer in zip(rows, answers, strict=True)]
    return metrics.entities(tags, [get(row, "tags") for row in rows])


def _first_tags(words: Sequence[str], answer: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tag of each word's first token; O where a word has none."""
    ends = np.cumsum([len(word) + 1 for word in words])
    tags: dict[int, str] = {}
    for token in answer:
        # A token may begin with the space before its word, but ends in it.
        tags.setdefault(int(np.searchsorted(ends, token["end"] - 1, side="right")), token["entity"])
    return [tags.get(number, "O") for number in range(len(words))]


def _question_answering(task: Pipeline, rows: Sequence[Row]) -> Scores:
    inputs = [{"question": get(row, "question"), "context": get(row, "context")} for row in rows]
    gold = [row.values["answers"] if "answers" in row.values else [get(row, "answer")] for row in rows]
    return metrics.spans([answer["answer"] for answer in task(inputs)], gold)


def _similarity(task: Pipeline, rows: Sequence[Row]) -> Scores:
    gold = [_number(row) for row in rows]
    if task.name == "sentence-similarity":
        inputs = [{"source_sentence": get(row, "text"), "sentences": [get(row, "text_pair")]} for row in rows]
        return metrics.correlation([answer[0] for answer in task(inputs)], gold)
    first, second = (task([get(row, field) for row in rows]) for field in ("text", "text_pair"))
    products = (first * second).sum(axis=1)
    cosines = products / np.maximum(np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1), 1e-12)
    return metrics.correlation(cosines.tolist(), gold)


def _generation(task: Pipeline, rows: Sequence[Row]) -> Scores:
    sources, targets = ([get(row, field) for row in rows] for field in ("source", "target"))
    return metrics.translation([next(iter(answer.values())) for answer in task(sources)], targets)


def _next_tokens(task: Pipeline, rows: Sequence[Row]) -> Scores:
    """Each token from those before it in its text."""
    surprises: list[float] = []
    for batch in _batches(task, rows):
        is_target = np.ones(len(batch.ids), bool)
        is_target[batch.offsets[1:] - 1] = False
        at = np.flatnonzero(is_target)
        surprises += _surprises(task, batch, at, batch.ids[at + 1])
    return metrics.perplexity(surprises)


MASKED = 0.15
"""The share of tokens that are hidden to see how well they are guessed (Devlin et al. 2019, §3.1)."""


def _masked_tokens(task: Pipeline, rows: Sequence[Row]) -> Scores:
    """Some tokens, always the same, each hidden behind the mask."""
    token = task.tokenizer.special("mask_token")
    mask = None if token is None else task.tokenizer.id_of(token)
    if mask is None:
        raise InputError("The tokenizer has no mask_token to hide tokens behind.")
    rng = np.random.default_rng(0)
    surprises: list[float] = []
    for batch in _batches(task, rows):
        assert batch.texts is not None
        is_word = np.array([source is not None for text in batch.texts for source in text.sources])
        at = np.flatnonzero(is_word & (rng.random(len(is_word)) < MASKED))
        if len(at):
            ids = batch.ids.copy()
            ids[at] = mask
            hidden = Batch(ids=ids, offsets=batch.offsets, segment_ids=batch.segment_ids)
            surprises += _surprises(task, hidden, at, batch.ids[at])
    return metrics.perplexity(surprises)


def _batches(task: Pipeline, rows: Sequence[Row]) -> Iterator[Batch]:
    texts = task.tokenizer.encode([get(row, "text") for row in rows], max_length=task.limit())
    return Batch.from_texts([text for text in texts if len(text.ids) > 1]).split(task.options.token_budget)


def _surprises(task: Pipeline, batch: Batch, at: Any, ids: Any) -> list[float]:
    """How improbable ids are behind some rows of a batch, in nats."""
    logits = task.model(batch, logits_at=at).logits
    log_probabilities = task.model.engine.to_numpy(task.model.engine.log_softmax(logits))
    nats: list[float] = (-log_probabilities[np.arange(len(at)), ids]).tolist()
    return nats


def get(row: Row, field: str) -> Any:
    """What a row holds in a field.

    Raises:
        InputError: it lacks the field.
    """
    if field not in row.values:
        raise InputError(f"{row.where}: there is no {field} among {', '.join(row.values)}. Name its column.")
    return row.values[field]


def _text_or_pair(row: Row) -> Any:
    text = get(row, "text")
    return {"text": text, "text_pair": row.values["text_pair"]} if "text_pair" in row.values else text


def _label(row: Row, given: Any, labels: Sequence[str]) -> str:
    """A label by its name or its number."""
    if str(given) in labels:
        return str(given)
    if str(given).isdecimal() and int(given) < len(labels):
        return labels[int(given)]
    raise InputError(f"{row.where}: label {given!r} is none of the model's: {', '.join(labels)}.")


def _number(row: Row) -> float:
    field = "score" if "score" in row.values else "label"
    try:
        return float(get(row, field))
    except (TypeError, ValueError) as error:
        raise InputError(f"{row.where}: {field} = {row.values[field]!r} is no number.") from error


SCORES: Mapping[str, Callable[[Pipeline, Sequence[Row]], Scores]] = {
    "text-classification": _classification,
    "token-classification": _token_classification,
    "question-answering": _question_answering,
    "sentence-embedding": _similarity,
    "sentence-similarity": _similarity,
    "text-generation": _next_tokens,
    "fill-mask": _masked_tokens,
    "text2text-generation": _generation,
    "summarization": _generation,
    "translation": _generation,
}
"""Name of a task → what scores it."""
