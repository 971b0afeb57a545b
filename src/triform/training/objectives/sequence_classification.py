"""Sequence classification: a label, several or a number for a text or a pair. Devlin et al. 2018, section 4.1."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, shown
from triform.inputs import LongInput, Tokenizer
from triform.model import Model, NewHead
from triform.training.objective import Loss, Objective, ObjectiveSettings
from triform.training.objectives.texts import (
    compute_logits,
    expect_head,
    make_reader,
    pack,
    read_text,
    read_value,
    to_tensor,
)
from triform.training.settings import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceClassificationSettings(ObjectiveSettings):
    """Settings of sequence-classification."""

    long_input: LongInput = setting(LongInput.ERROR, "Refuse a longer text (error), or cut it (truncate).")
    labels: Sequence[str] | None = setting(None, "Labels of a new head; by default those of the training files.")
    problem: spec.Problem | None = setting(None, "Meaning of a new head's scores; by default one label for each text.")


@dataclass(frozen=True, eq=False, slots=True)
class LabelledText:
    """Text, or pair of texts, of n tokens, with targets."""

    ids: Integers
    """(n,)"""
    token_type_ids: Integers
    """(n,)"""
    targets: NDArray[Any]
    """(1,) number of the label, int64; or (num_labels,) float32: 0 or 1 for each label, or scores."""


class SequenceClassification(Objective[LabelledText]):
    """Sequence classification: a `text`, perhaps a `text_pair`, and the targets of the model's problem.

    The targets are a `label`; for multi-label `labels`, a list; for regression a `score`, or a list of scores.

    Raises:
        WrongTaskError: the model has another head.
    """

    name = "sequence-classification"
    rows = "text, perhaps text_pair; label, or labels, or score"
    head = spec.SequenceHead
    task = "text-classification"
    settings_type = SequenceClassificationSettings

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: SequenceClassificationSettings) -> None:
        head = expect_head(model, spec.SequenceHead)
        self._reader = make_reader(model, tokenizer, max_length=settings.max_length, long_input=settings.long_input)
        self._labels = {label: number for number, label in enumerate(head.labels)}
        self._problem = head.problem

    @classmethod
    def new_head(cls, settings: SequenceClassificationSettings, rows: Iterable[Row]) -> NewHead:
        labels = settings.labels
        if labels is None and settings.problem != spec.Problem.REGRESSION:
            labels = find_labels(rows)
        return NewHead(cls.head, labels=labels, problem=settings.problem)

    def examples(self, row: Row) -> list[LabelledText]:
        text = read_text(row, "text")
        pair = None if row.values.get("text_pair") is None else read_text(row, "text_pair")
        encoded = self._reader.read(row, text if pair is None else (text, pair))
        return [LabelledText(encoded.ids, encoded.token_type_ids, self._targets(row))]

    def check_answer(self, row: Row) -> None:
        self._targets(row)

    def num_tokens(self, example: LabelledText) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[LabelledText], rng: np.random.Generator) -> Loss:
        batch = pack([each.ids for each in examples], [each.token_type_ids for each in examples])
        logits = compute_logits(model, batch)
        targets = to_tensor(model, np.stack([each.targets for each in examples]))
        match self._problem:
            case spec.Problem.SINGLE_LABEL:
                total = functional.cross_entropy(logits, targets[:, 0], reduction="sum")
            case spec.Problem.MULTI_LABEL:
                total = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
            case spec.Problem.REGRESSION:
                total = functional.mse_loss(logits.float(), targets, reduction="sum")
        return Loss(total, targets.numel())

    def _targets(self, row: Row) -> NDArray[Any]:
        match self._problem:
            case spec.Problem.SINGLE_LABEL:
                return np.array([self._number_of(row, _label(row, read_value(row, "label")))], np.int64)
            case spec.Problem.MULTI_LABEL:
                targets = np.zeros(len(self._labels), np.float32)
                targets[[self._number_of(row, label) for label in _labels(row)]] = 1
                return targets
            case spec.Problem.REGRESSION:
                return self._scores(row)

    def _number_of(self, row: Row, label: str) -> int:
        if label not in self._labels:
            raise InputError(f"{row.where}: label {label!r} is none of the model's: {', '.join(self._labels)}.")
        return self._labels[label]

    def _scores(self, row: Row) -> NDArray[np.float32]:
        value = read_value(row, "score")
        try:
            scores = np.asarray(value if isinstance(value, list | tuple) else [value], np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"{row.where}: score is {shown(value)}; expected a number.") from error
        if scores.shape != (len(self._labels),) or not np.isfinite(scores).all():
            expected = "a finite number" if len(self._labels) == 1 else f"{len(self._labels)} finite numbers"
            raise InputError(f"{row.where}: score is {shown(value)}; expected {expected}.")
        return scores


def find_labels(rows: Iterable[Row]) -> list[str]:
    """Collect all labels of some rows, in alphabetical order."""
    found: set[str] = set()
    for row in rows:
        is_several = row.values.get("labels") is not None
        found |= set(_labels(row)) if is_several else {_label(row, read_value(row, "label"))}
    return sorted(found)


def _label(row: Row, value: Any) -> str:
    """Convert a label, a text or a whole number, to a text, as in config.json."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{row.where}: label is {shown(value)}; expected a text or a whole number.")
    return str(value)


def _labels(row: Row) -> list[str]:
    labels = read_value(row, "labels")
    if not isinstance(labels, list | tuple):
        raise InputError(f"{row.where}: labels is {shown(labels)}; expected a list, which may be empty.")
    return [_label(row, label) for label in labels]
