"""Question answering: finding the answer's span in a context. Devlin et al. 2018, section 4.2."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, shown
from triform.inputs import EncodedText, Tokenizer
from triform.model import Model
from triform.training.objective import Loss, Objective, ObjectiveSettings
from triform.training.objectives.texts import expect_head, make_reader, pack, read_text, run_network, to_tensor
from triform.training.settings import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionAnsweringSettings(ObjectiveSettings):
    """Settings of question-answering."""

    overlap: int | None = setting(None, "Tokens that neighbouring windows share; by default 128, or half a window.")


@dataclass(frozen=True, eq=False, slots=True)
class AnsweredQuestion:
    """Question with a context, or with a window of a long context, of n tokens."""

    ids: Integers
    """(n,)"""
    token_type_ids: Integers
    """(n,)"""
    first: int
    """Row of the answer's first token; 0, the token before the question, where the window has no whole answer."""
    last: int
    """Row of the answer's last token, or 0."""


class QuestionAnswering(Objective[AnsweredQuestion]):
    """Question answering: a `question`, a `context` and an `answer`, a text of the context; empty for no answer.

    `answer_start` is the character at which the answer begins; by default the first place where its text stands. A long
    context is read in windows that overlap.

    Raises:
        WrongTaskError: the model has another head.
    """

    name = "question-answering"
    rows = "question, context, answer, perhaps answer_start"
    head = spec.SpanHead
    task = "question-answering"
    settings_type = QuestionAnsweringSettings

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: QuestionAnsweringSettings) -> None:
        expect_head(model, spec.SpanHead)
        self._reader = make_reader(model, tokenizer, max_length=settings.max_length)
        self._overlap = settings.overlap

    def examples(self, row: Row) -> list[AnsweredQuestion]:
        question, context = read_text(row, "question"), read_text(row, "context")
        span = _span(row, context)
        windows = self._reader.read_in_windows(row, (question, context), overlap=self._overlap)
        return [AnsweredQuestion(window.ids, window.token_type_ids, *_tokens_of(window, span)) for window in windows]

    def num_tokens(self, example: AnsweredQuestion) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[AnsweredQuestion], rng: np.random.Generator) -> Loss:
        """Compute the mean of two cross entropies: of the answer's first row, and of the last row, among all rows."""
        batch = pack([each.ids for each in examples], [each.token_type_ids for each in examples])
        scores = pad_sequence(run_network(model, batch).split("logits"), batch_first=True, padding_value=-torch.inf)
        targets = to_tensor(model, np.array([[each.first, each.last] for each in examples]))
        return Loss(functional.cross_entropy(scores, targets, reduction="sum") / 2, len(examples))


def _span(row: Row, context: str) -> tuple[int, int] | None:
    """Find the answer's first and last character in the context; None for no answer.

    Raises:
        InputError: the answer does not stand in the context.
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
    """Find the rows of the answer's first and last token; (0, 0) unless the window has the whole answer."""
    if span is None:
        return 0, 0
    begin, end = span
    rows = np.flatnonzero([sequence == 1 for sequence in window.sequence_ids])
    begins, ends = window.characters[rows].T
    within = np.flatnonzero((ends > begin) & (begins < end))
    if not len(within) or begins[within[0]] > begin or ends[within[-1]] < end:
        return 0, 0
    return int(rows[within[0]]), int(rows[within[-1]])
