"""Extraction of the answer to a question from a text.

The answers equal the pipeline of transformers 4, with three differences: spans of score 0 are not listed; `top_k` above
1, and a list of inputs, give a list even for a single answer; and a context without a token is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from triform import spec
from triform.errors import ContextLengthError, InputError, shown
from triform.inputs import Batch, EncodedText, LongInput, cut_into_windows, pack_texts
from triform.inputs.text.windows import OVERLAP
from triform.tasks.options import Options, option
from triform.tasks.probabilities import Numbers, softmax
from triform.tasks.task import Fields, Rows
from triform.tasks.text_task import TextTask, read_object


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionAnsweringOptions(Options):
    """Options of question-answering."""

    long_input: LongInput = option(
        LongInput.WINDOW,
        "Read a long context in windows that overlap, or refuse it (error).",
        choices=(LongInput.WINDOW, LongInput.ERROR),
    )
    top_k: int = option(1, "How many answers to list, the best first; 1 gives the best one alone.", minimum=1)
    max_answer_len: int = option(15, "Most tokens of an answer.", minimum=1)
    handle_impossible_answer: bool = option(False, "Whether the answer may be that there is none: an empty text.")
    align_to_words: bool = option(True, "Whether an answer that begins or ends inside a word takes in all of it.")
    max_seq_len: int = option(384, "Most tokens of question and context together; a longer context is cut.", minimum=1)
    doc_stride: int | None = option(
        None, "Tokens that the pieces of a long context share; by default 128, or half a piece.", minimum=0
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A span of tokens in one window."""

    score: float
    """The product of the probabilities of both."""
    first: int
    last: int
    """First and last row of the window."""


class QuestionAnswering(TextTask[Rows, Any]):
    """Answers `{score, start, end, answer}` for `{question, context}`, or a list of them where `top_k` is above 1.

    `start` and `end` count characters of the context. A long context is read in windows that overlap; none of it is
    left out. Where the same words are found more than once, that is one answer, with the sum of the scores.
    """

    name = "question-answering"
    summary = "Where in a text the answer to a question stands."
    example = '{"question": "Where did the cat sit?", "context": "A cat sat on the mat."}'
    fields: ClassVar[Fields] = {"question": str, "context": str}
    options_type = QuestionAnsweringOptions
    several_sequences = True
    head = spec.SpanHead
    forms = (spec.Encoder, spec.Decoder, spec.EncoderDecoder)

    def __call__(self, inputs: Any = None, context: Any = None, *, question: Any = None, **options: Any) -> Any:
        """Answer `{question, context}`, a list of them, or an iterable.

        Both may also stand by themselves: as two texts, as `question=` and `context=`, or as lists of the same length;
        one context serves any number of questions.
        """
        if question is not None or context is not None:
            if inputs is not None and question is not None:
                raise InputError(f"{self.name}: expected the question once, got it twice.")
            inputs = paired(inputs if question is None else question, context)
        return super().__call__(inputs, **options)

    def preprocess(self, inputs: Sequence[Any], options: QuestionAnsweringOptions) -> Batch:
        [given] = inputs
        question, context = read_object(given, self.fields)
        for name in self.fields:
            if not given[name]:
                raise InputError(f"{name} is empty: expected a text, got {shown(given[name])}.")
        [whole] = self.tokenizer.encode([(question, context)])
        if 1 not in whole.sequence_ids:
            raise InputError(f"context has no token: {context!r}. Leave it out.")
        if options.handle_impossible_answer and not self._can_say_none(whole):
            raise InputError(
                "handle_impossible_answer: this model has no token that stands for there being no answer. Leave it out."
            )
        limit = self.limit(options.max_seq_len)
        if options.long_input is LongInput.ERROR and limit is not None and len(whole.ids) > limit:
            raise ContextLengthError(
                f"Question and context have {len(whole.ids)} tokens, more than the {limit} that fit. Shorten the "
                'context, or let it be read in parts with long_input="window".',
                len(whole.ids),
                limit,
            )
        try:
            return pack_texts(cut_into_windows(whole, max_length=limit, overlap=_overlap(whole, limit, options)))
        except InputError as error:
            raise InputError(f"max_seq_len={options.max_seq_len}, doc_stride={options.doc_stride}: {error}") from error

    def forward(self, batch: Batch, options: QuestionAnsweringOptions) -> Rows:
        return self.logits(batch)

    def num_rows(self, batch: Batch) -> int:
        return batch.num_rows

    def postprocess(self, batch: Batch, tensors: Rows, options: QuestionAnsweringOptions) -> list[Any]:
        texts = batch.sources_of(EncodedText)
        context = texts[0].pair
        assert context is not None
        # Twice as many as are wanted, since candidates may turn out to be one answer; as in `transformers`.
        count = 2 * options.top_k + 10 if options.align_to_words else options.top_k
        answers: dict[str, dict[str, Any]] = {}
        no_answer = np.inf
        for text, (begin, end) in zip(texts, batch.spans.pairs(), strict=True):
            can_say_none = self._can_say_none(text)
            starts, ends = probabilities_in(text, tensors[begin:end], can_say_none=can_say_none)
            # The context lacks an answer only where every window lacks one.
            no_answer = min(no_answer, float(starts[0] * ends[0]))
            for found in best_of(text, starts, ends, max_length=options.max_answer_len, count=count):
                first, last = characters_of(text, found, align_to_words=options.align_to_words)
                words = context[first:last]
                answer = {"score": 0.0, "start": first, "end": last, "answer": words}
                answers.setdefault(words.lower(), answer)["score"] += found.score
        best = list(answers.values())
        if options.handle_impossible_answer:
            best.append({"score": no_answer, "start": 0, "end": 0, "answer": ""})
        best = sorted(best, key=lambda answer: -answer["score"])[: options.top_k]
        return [best[0] if options.top_k == 1 else best]

    def _can_say_none(self, text: EncodedText) -> bool:
        """Check whether the first token, such as [CLS], means "no answer"; it must have seen the text."""
        return text.sequence_ids[0] is None and not isinstance(self.model.spec.form, spec.Decoder)


def paired(questions: Any, contexts: Any) -> Any:
    """Pair questions with contexts: `{question, context}`, or a list of them.

    Raises:
        InputError: lists of different lengths.
    """
    if not isinstance(questions, list | tuple):
        return {"question": questions, "context": contexts}
    contexts = contexts if isinstance(contexts, list | tuple) else [contexts] * len(questions)
    if len(questions) != len(contexts):
        raise InputError(f"Expected as many contexts as questions, got {len(contexts)} and {len(questions)}.")
    return [{"question": question, "context": context} for question, context in zip(questions, contexts, strict=True)]


def _overlap(whole: EncodedText, limit: int | None, options: QuestionAnsweringOptions) -> int | None:
    """The overlap of the windows in tokens; by default as in `transformers`, if a long question leaves room for it."""
    if options.doc_stride is not None or limit is None:
        return options.doc_stride
    overlap = min(OVERLAP, limit // 2)
    room = limit - sum(sequence != 1 for sequence in whole.sequence_ids)
    return overlap if overlap < room else None


def probabilities_in(text: EncodedText, logits_TX: Rows, *, can_say_none: bool) -> Numbers:
    """Logits (T, 2) of one window → probabilities (2, T) of an answer's start and end; 0 outside the context."""
    is_read = np.array([sequence == 1 for sequence in text.sequence_ids])
    is_read[0] |= can_say_none
    return softmax(np.where(is_read[:, None], logits_TX, -np.inf).T)


def best_of(text: EncodedText, starts: Numbers, ends: Numbers, *, max_length: int, count: int) -> list[Candidate]:
    """Find the best spans of at most `max_length` tokens in one window's context; starts and ends are (T,)."""
    rows = np.flatnonzero([sequence == 1 for sequence in text.sequence_ids])
    firsts, lasts = (rows[index] for index in np.nonzero(np.triu(np.tri(len(rows), k=max_length - 1))))
    scores = starts[firsts] * ends[lasts]
    best = np.argsort(-scores, kind="stable")[:count].tolist()
    return [Candidate(score=float(scores[i]), first=int(firsts[i]), last=int(lasts[i])) for i in best if scores[i]]


def characters_of(text: EncodedText, found: Candidate, *, align_to_words: bool) -> tuple[int, int]:
    """Find begin and end of an answer in the context; `align_to_words` widens it to the words that the window shows."""
    first, last = found.first, found.last
    if align_to_words and text.words is not None:
        first_word, last_word = text.words[first], text.words[last]
        if first_word is not None and last_word is not None:
            in_context = [row for row, sequence in enumerate(text.sequence_ids) if sequence == 1]
            first = next(row for row in in_context if text.words[row] == first_word)
            last = next(row for row in reversed(in_context) if text.words[row] == last_word)
    return int(text.characters[first, 0]), int(text.characters[last, 1])
