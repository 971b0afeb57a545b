"""Where in a text the answer to a question stands.

As the pipeline of transformers 4 had it, but that an answer is the tokens the model chose, not widened to whole words;
that the same words in two places are two answers; and that a long question is refused, not cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from triform import spec
from triform.engines import Integers
from triform.errors import InputError
from triform.inputs import Batch, EncodedText, LongInput, cut_into_windows
from triform.tasks.probabilities import Numbers, softmax
from triform.tasks.several import Rows, TaskOfSeveral
from triform.tasks.task import Options, option
from triform.tasks.text_input import Fields, read_object


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionAnsweringOptions(Options):
    """Options of question-answering."""

    top_k: int = option(1, "How many answers to list, the best first; 1 gives the best one alone.", minimum=1)
    max_answer_len: int = option(15, "Most tokens of an answer.", minimum=1)
    handle_impossible_answer: bool = option(False, "Whether the answer may be that there is none: an empty text.")
    max_seq_len: int = option(384, "Most tokens of question and context together; a longer context is cut.", minimum=1)
    doc_stride: int | None = option(
        None, "Tokens that the pieces of a long context share; by default 128, or half a piece.", minimum=0
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """The answers that one window allows. N of them."""

    scores: Numbers
    """(N,)"""
    characters: Integers
    """(N, 2) begin and end in the whole context."""
    no_answer: float
    """The score of there being none; 0 where the model cannot say so."""


class QuestionAnswering(TaskOfSeveral[Any]):
    """Answers `{score, start, end, answer}` for `{question, context}`, or a list of them where `top_k` is above 1.

    `start` and `end` count characters of the context. A long context is read in windows that overlap; none of it is
    left out.
    """

    name = "question-answering"
    summary = "Where in a text the answer to a question stands."
    example = '{"question": "Where did the cat sit?", "context": "A cat sat on the mat."}'
    fields: ClassVar[Fields] = {"question": str, "context": str}
    options_type = QuestionAnsweringOptions
    head = spec.SpanHead
    forms = (spec.Encoder, spec.Decoder, spec.EncoderDecoder)

    def preprocess(self, inputs: Sequence[Any], options: QuestionAnsweringOptions) -> Batch:
        [given] = inputs
        if options.long_input is LongInput.TRUNCATE:
            raise InputError("long_input='truncate': a long context is read in windows and never cut. Leave it out.")
        question, context = read_object(given, self.fields)
        for name in self.fields:
            if not given[name].strip():
                raise InputError(f"{name} is empty: expected a text, got {given[name]!r}.")
        [whole] = self.tokenizer.encode([(question, context)])
        if options.handle_impossible_answer and not self._can_say_none(whole):
            raise InputError(
                "handle_impossible_answer: this model has no token that stands for there being no answer. Leave it out."
            )
        limit = self.limit(options.max_seq_len)
        return Batch.from_texts(cut_into_windows(whole, max_length=limit, overlap=options.doc_stride))

    def forward(self, batch: Batch, options: QuestionAnsweringOptions) -> Rows:
        logits: Rows = self.model.engine.to_numpy(self.model(batch).logits)
        return logits

    def postprocess(self, batch: Batch, tensors: Rows, options: QuestionAnsweringOptions) -> list[Any]:
        assert batch.texts is not None
        context = batch.texts[0].pair
        assert context is not None
        windows = [
            candidates_in(text, tensors[begin:end], options.max_answer_len, can_say_none=self._can_say_none(text))
            for text, (begin, end) in zip(batch.texts, batch.spans.pairs(), strict=True)
        ]
        best = best_of(windows, options.top_k)
        if options.handle_impossible_answer:
            # There is none only where no window has one.
            best = sorted([*best, (min(window.no_answer for window in windows), 0, 0)], key=lambda one: -one[0])
        answers = [
            {"score": score, "start": start, "end": end, "answer": context[start:end]}
            for score, start, end in best[: options.top_k]
        ]
        return [answers[0] if options.top_k == 1 else answers]

    def _can_say_none(self, text: EncodedText) -> bool:
        """Whether the first token, such as [CLS], stands for there being no answer: one that has seen the text."""
        return text.sources[0] is None and not isinstance(self.model.spec.form, spec.Decoder)


def candidates_in(text: EncodedText, logits_TX: Rows, max_answer_len: int, *, can_say_none: bool) -> Candidates:
    """All pairs of a start and an end in one window's context; a score is the product of both probabilities."""
    is_context = np.array([source == 1 for source in text.sources])
    is_read = is_context.copy()
    is_read[0] |= can_say_none
    starts, ends = softmax(np.where(is_read[:, None], logits_TX, -np.inf).T)
    rows = np.flatnonzero(is_context)
    firsts, lasts = (rows[index] for index in np.nonzero(np.triu(np.tri(len(rows), k=max_answer_len - 1))))
    return Candidates(
        scores=starts[firsts] * ends[lasts],
        characters=np.stack([text.characters[firsts, 0], text.characters[lasts, 1]], axis=-1),
        no_answer=float(starts[0] * ends[0]) if can_say_none else 0.0,
    )


def best_of(windows: Sequence[Candidates], top_k: int) -> list[tuple[float, int, int]]:
    """(score, start, end) of the best candidates of all windows; of those for the same characters the best one."""
    scores = np.concatenate([window.scores for window in windows])
    characters = np.concatenate([window.characters for window in windows])
    best: dict[tuple[int, int], float] = {}
    for index in np.argsort(-scores, kind="stable").tolist():
        start, end = characters[index].tolist()
        best.setdefault((start, end), float(scores[index]))
        if len(best) == top_k:
            break
    return [(score, start, end) for (start, end), score in best.items()]
