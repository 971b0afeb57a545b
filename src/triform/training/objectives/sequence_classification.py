"""A label, several or a number for a text or a pair of texts. Devlin et al. 2018, section 4.1."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, WrongTaskError, shown
from triform.inputs import LongInput, Tokenizer
from triform.model import Model
from triform.training.objective import Loss
from triform.training.objectives.texts import logits_of, pack, reader_of, tensor, text_in, value_in


@dataclass(frozen=True, eq=False, slots=True)
class Labelled:
    """A text, or a pair, and what is to be said of it."""

    ids: Integers
    """(n,)"""
    segment_ids: Integers
    """(n,)"""
    targets: NDArray[Any]
    """(1,) the number of a label, as int64; or for each of the model's labels 0 or 1, or a number, as float32."""


class SequenceClassification:
    """Rows with a `text`, perhaps a `text_pair`, and what the model's problem asks for.

    That is a `label`; for multi-label `labels`, a list; for regression a `score`, or a list of them.

    Arguments:
        model: with a sequence head.
        tokenizer, max_length, long_input: see `reader_of`.

    Raises:
        WrongTaskError: the model has another head.
    """

    head = spec.SequenceHead

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        max_length: int | None = None,
        long_input: str = LongInput.ERROR,
    ) -> None:
        head = model.spec.head
        if not isinstance(head, spec.SequenceHead):
            raise WrongTaskError(
                f"{model.checkpoint.source} does not classify sequences. Ask for a new head: "
                'start(…, head="sequence-classification", labels=[…]).'
            )
        self._reader = reader_of(model, tokenizer, max_length=max_length, long_input=long_input)
        self._labels = {label: number for number, label in enumerate(head.labels)}
        self._problem = head.problem

    @staticmethod
    def labels(rows: Iterable[Row]) -> list[str]:
        """All labels of some rows, in alphabetical order."""
        found: set[str] = set()
        for row in rows:
            is_several = row.values.get("labels") is not None
            found |= set(_labels(row)) if is_several else {_label(row, value_in(row, "label"))}
        return sorted(found)

    def examples(self, row: Row) -> list[Labelled]:
        text = text_in(row, "text")
        pair = None if row.values.get("text_pair") is None else text_in(row, "text_pair")
        encoded = self._reader.read(row, text if pair is None else (text, pair))
        return [Labelled(encoded.ids, encoded.segment_ids, self._targets(row))]

    def tokens(self, example: Labelled) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[Labelled], rng: np.random.Generator) -> Loss:
        batch = pack([each.ids for each in examples], [each.segment_ids for each in examples])
        logits = logits_of(model, batch)
        targets = tensor(model, np.stack([each.targets for each in examples]))
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
                return np.array([self._number_of(row, _label(row, value_in(row, "label")))], np.int64)
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
        value = value_in(row, "score")
        try:
            scores = np.asarray(value if isinstance(value, list | tuple) else [value], np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"{row.where}: score is {shown(value)}; expected a number.") from error
        if scores.shape != (len(self._labels),) or not np.isfinite(scores).all():
            expected = "a finite number" if len(self._labels) == 1 else f"{len(self._labels)} finite numbers"
            raise InputError(f"{row.where}: score is {shown(value)}; expected {expected}.")
        return scores


def _label(row: Row, value: Any) -> str:
    """A label as the model's config writes it: a number is one too."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{row.where}: label is {shown(value)}; expected a text or a whole number.")
    return str(value)


def _labels(row: Row) -> list[str]:
    labels = value_in(row, "labels")
    if not isinstance(labels, list | tuple):
        raise InputError(f"{row.where}: labels is {shown(labels)}; expected a list, be it empty.")
    return [_label(row, label) for label in labels]
