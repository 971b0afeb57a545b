"""The steps of one text through a shipped model: tokens, ids, tensors, scores, answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from triform.demo import Demo
from triform.errors import InputError
from triform.inputs import Batch, EncodedText
from triform.networks import EncoderOutput, Output
from triform.tasks import pipeline
from triform.tasks.generative.text2text_generation import Text2TextGeneration
from triform.tasks.generative.text_generation import TextGeneration
from triform.tasks.probabilities import Numbers, softmax
from triform.tasks.text_task import TextTask
from triform.tasks.token_level.token_classification import TokenClassification

NUM_CANDIDATES = 3
"""How many candidates for the next token are shown."""


class Candidate(NamedTuple):
    """One label or token that a row of logits scores."""

    name: str
    logit: float
    probability: float


class Scores(NamedTuple):
    """The best candidates of one row of logits, best first."""

    of: str
    """The text or token that the row belongs to."""
    candidates: Sequence[Candidate]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """The states of n tokens in the encoder or the decoder."""

    name: str
    tokens: Sequence[str]
    states: Sequence[Numbers]
    """(n, D) after the embedding and after each block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """Text → tokens → ids → tensors → tensors → text."""

    text: EncodedText
    stacks: Sequence[Stack]
    logits: Numbers
    """(rows, labels or vocabulary)"""
    scores: Sequence[Scores]
    answer: Any
    """The task's answer."""


class Walker:
    """A shipped model that shows each step for a text."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        task = pipeline(demo.task, demo.folder, **demo.options)
        assert isinstance(task, TextTask), "the shipped models read text"
        self.task = task

    def walk(self, text: str) -> Walk:
        """Answer a text and keep the tensors of each step.

        Raises:
            InputError: the text is empty, or longer than the model can read.
        """
        if not text.strip():
            raise InputError(f"There is no text. Type one, such as: {self.demo.example}")
        task, options = self.task, self.task.options
        batch = task.preprocess([text], options)
        if len(batch) > 1:
            raise InputError(f"The text has {len(batch.ids)} tokens; the demo shows texts of one window. Shorten it.")
        if isinstance(task, Text2TextGeneration | TextGeneration):
            return self._generated(batch)
        output = task.model(batch, hidden_states=True)
        of_tokens = isinstance(task, TokenClassification)
        logits = task.model.engine.to_numpy(output.logits)
        answer = task.postprocess(batch, logits, options)[0]
        [encoded] = batch.sources_of(EncodedText)
        head: Any = task.model.spec.head
        rows = zip(encoded.tokens, encoded.sequence_ids, strict=True) if of_tokens else [(text, 0)]
        return Walk(
            text=encoded,
            stacks=[self._stack("encoder", encoded.tokens, output)],
            logits=logits,
            scores=[
                _scores(of, row, head.labels)
                for (of, sequence), row in zip(rows, logits, strict=True)
                if sequence is not None
            ],
            answer=answer,
        )

    def _generated(self, batch: Batch) -> Walk:
        """Generate, then run the model once over the whole answer: the same logits, with all hidden states."""
        task, options = self.task, self.task.options
        tensors = task.forward(batch, options)
        [answer] = task.postprocess(batch, tensors, options)
        ids = getattr(tensors[0], "ids", tensors[0])
        [encoded] = batch.sources_of(EncodedText)
        written = [self._token(id) for id in ids]
        if isinstance(task, TextGeneration):
            whole = Batch.from_ids([[*batch.ids.tolist(), *ids[:-1]]])
            output = task.model(whole, hidden_states=True)
            stacks = [self._stack("decoder", [*encoded.tokens, *written[:-1]], output)]
            first = len(batch.ids) - 1
        else:
            start = task.model.blueprint.config["decoder_start_token_id"]
            encoder = task.model.encode(batch, hidden_states=True)
            output = task.model(encoder, Batch.from_ids([[start, *ids[:-1]]]), hidden_states=True)
            stacks = [
                self._stack("encoder", encoded.tokens, encoder),
                self._stack("decoder", [self._token(start), *written[:-1]], output),
            ]
            first = 0
        logits = task.model.engine.to_numpy(output.logits)[first:]
        scores = [self._next(id, row) for id, row in zip(ids, logits, strict=True)]
        return Walk(text=encoded, stacks=stacks, logits=logits, scores=scores, answer=answer)

    def _next(self, written: int, row: Numbers) -> Scores:
        """List the best candidates and the token that was written, which may have been sampled from the others."""
        probabilities = softmax(row)
        best = np.argsort(-row, kind="stable")[:NUM_CANDIDATES].tolist()
        shown = best if written in best else [*best, written]
        candidates = [Candidate(self._token(id), float(row[id]), float(probabilities[id])) for id in shown]
        return Scores(self._token(written), candidates)

    def _token(self, id: int) -> str:
        return self.task.tokenizer.token_of(id) or f"#{id}"

    def _stack(self, name: str, tokens: Sequence[str], output: Output | EncoderOutput) -> Stack:
        assert output.hidden_states is not None
        to_numpy = self.task.model.engine.to_numpy
        return Stack(name=name, tokens=tokens, states=[to_numpy(states) for states in output.hidden_states])


def _scores(of: str, row: Numbers, labels: Sequence[str]) -> Scores:
    probabilities = softmax(row)
    candidates = [
        Candidate(labels[index], float(row[index]), float(probabilities[index]))
        for index in np.argsort(-row, kind="stable").tolist()
    ]
    return Scores(of, candidates)
