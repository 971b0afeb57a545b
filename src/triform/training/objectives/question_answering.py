"""Where in a context the answer to a question stands. Devlin et al. 2018, section 4.2."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, WrongTaskError, shown
from triform.inputs import EncodedText, Tokenizer
from triform.model import Model
from triform.training.objective import Loss
from triform.training.objectives.texts import forward, pack, reader_of, tensor, text_in


@dataclass(frozen=True, eq=False, slots=True)
class Answered:
    """A question with a context, or with a window of a long one."""

    ids: Integers
    """(n,)"""
    segment_ids: Integers
    """(n,)"""
    first: int
    """The first token of the answer; 0, what stands before the question, where there is none in view."""
    last: int
    """Its last token."""


class QuestionAnswering:
    """Rows with a `question`, a `context` and an `answer`, which is a text of the context, or empty for none.

    `answer_start` says at which character it begins; without it, that is the first place where its text stands. A long
    context is read in windows that overlap.

    Arguments:
        model: with a span head.
        tokenizer, max_length: see `reader_of`.
        overlap: tokens that neighbouring windows share; by default 128, or half a window.

    Raises:
        WrongTaskError: the model has another head.
    """

    head = spec.SpanHead

    def __init__(
        self, model: Model, tokenizer: Tokenizer, *, max_length: int | None = None, overlap: int | None = None
    ) -> None:
        if not isinstance(model.spec.head, spec.SpanHead):
            raise WrongTaskError(
                f"{model.checkpoint.source} does not find answers. Ask for a new head: "
                'start(…, head="question-answering").'
            )
        self._reader = reader_of(model, tokenizer, max_length=max_length)
        self._overlap = overlap

    def examples(self, row: Row) -> list[Answered]:
        question, context = text_in(row, "question"), text_in(row, "context")
        span = _span(row, context)
        windows = self._reader.read_in_windows(row, (question, context), overlap=self._overlap)
        return [Answered(window.ids, window.segment_ids, *_tokens_of(window, span)) for window in windows]

    def tokens(self, example: Answered) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[Answered], rng: np.random.Generator) -> Loss:
        """Half the cross entropy of the first token among all, and half that of the last."""
        batch = pack([each.ids for each in examples], [each.segment_ids for each in examples])
        scores = pad_sequence(forward(model, batch).split("logits"), batch_first=True, padding_value=-torch.inf)
        targets = tensor(model, np.array([[each.first, each.last] for each in examples]))
        return Loss(functional.cross_entropy(scores, targets, reduction="sum") / 2, len(examples))


def _span(row: Row, context: str) -> tuple[int, int] | None:
    """Where the answer begins and ends in the context, in characters.

    Raises:
        InputError: it does not stand there.
    """
    answer = row.values.get("answer") or ""
    if not isinstance(answer, str):
        raise InputError(f"{row.where}: answer is {shown(answer)}; expected a text of the context.")
    if not answer:
        return None
    begin = row.values.get("answer_start")
    try:
        begin = context.find(answer) if begin is None else int(begin)
    except (TypeError, ValueError) as error:
        raise InputError(f"{row.where}: answer_start is {shown(begin)}; expected a number of characters.") from error
    if begin < 0 or context[begin : begin + len(answer)] != answer:
        raise InputError(f"{row.where}: the answer {answer[:60]!r} does not stand where it should in the context.")
    return begin, begin + len(answer)


def _tokens_of(window: EncodedText, span: tuple[int, int] | None) -> tuple[int, int]:
    """The first and the last token of the answer; (0, 0) where the window does not hold all of it."""
    if span is None:
        return 0, 0
    begin, end = span
    rows = np.flatnonzero([source == 1 for source in window.sources])
    begins, ends = window.characters[rows].T
    within = np.flatnonzero((ends > begin) & (begins < end))
    if not len(within) or begins[within[0]] > begin or ends[within[-1]] < end:
        return 0, 0
    return int(rows[within[0]]), int(rows[within[-1]])
