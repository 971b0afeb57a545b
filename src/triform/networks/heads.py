"""Heads on the last hidden states: token-level and sequence-level."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from triform import spec
from triform.engines import Array, Engine, Integers, Spans
from triform.errors import InputError
from triform.networks.layers.linear import Linear
from triform.networks.layers.norm import build_norm
from triform.networks.output import Output
from triform.networks.scope import Scope


class Head(Protocol):
    """Last hidden states → logits, with the spans of the sequences among the rows of logits."""

    def __call__(self, states_TD: Array, ids: Integers, spans: Spans, rows: Integers | None) -> tuple[Array, Spans]:
        """Compute logits: (T, D) states of the (T,) ids → (T, V) for `rows` or for all; or (B, labels)."""


def with_head(
    head: Head | None,
    states_TD: Array,
    ids: Integers,
    spans: Spans,
    *,
    logits_at: Integers | None,
    hidden_states: tuple[Array, ...] | None,
) -> Output:
    """Apply the head to the last hidden states, (T, D), and put the output together."""
    logits, logits_spans = (None, None) if head is None else head(states_TD, ids, spans, logits_at)
    return Output(
        last_hidden_state=states_TD,
        spans=spans,
        logits=logits,
        logits_spans=logits_spans,
        hidden_states=hidden_states,
    )


class LanguageHead:
    """A score for every entry of the vocabulary, for every token."""

    def __init__(self, scope: Scope, head: spec.LanguageHead, stack: spec.Stack, word: Scope) -> None:
        size, scope = stack.embedding.hidden_size, scope / "language_head"
        self._engine = scope.engine
        self._scale = head.scale
        self._transform = None
        if head.transform is not None:
            self._transform = Linear(scope / "transform", size, size, bias=True)
            self._activation = head.transform.activation
            self._norm = build_norm(scope / "transform" / "norm", head.transform.norm, size)
        self._weight = (word if head.tied else scope).linear("weight", stack.vocab_size, size)
        self._bias = scope.vector("bias", stack.vocab_size) if head.bias else None

    def __call__(self, states_TD: Array, ids: Integers, spans: Spans, rows: Integers | None) -> tuple[Array, Spans]:
        x, spans = select_rows(self._engine, states_TD, spans, rows)
        if self._transform is not None:
            x = self._norm(self._transform(x, activation=self._activation))
        if self._scale != 1:
            x = self._engine.multiply(x, self._scale)
        return self._engine.linear(x, self._weight, self._bias), spans


class TokenHead:
    """Scores for every token: for each label, or for the start and the end of a span."""

    def __init__(self, scope: Scope, head: spec.TokenHead | spec.SpanHead, hidden_size: int, num_scores: int) -> None:
        self._engine = scope.engine
        self._dropout = head.dropout
        self._linear = Linear(scope, hidden_size, num_scores, bias=head.bias)

    def __call__(self, states_TD: Array, ids: Integers, spans: Spans, rows: Integers | None) -> tuple[Array, Spans]:
        x, spans = select_rows(self._engine, states_TD, spans, rows)
        return self._linear(self._engine.dropout(x, self._dropout)), spans


class SequenceHead:
    """A score for every label, for the whole sequence."""

    def __init__(self, scope: Scope, head: spec.SequenceHead, hidden_size: int) -> None:
        self._engine = scope.engine
        self._spec = head
        self._pool = build_pooling(scope.engine, head.pooling)
        self._pooler = Linear(scope / "pooler", hidden_size, hidden_size, bias=True) if head.pooler else None
        self._linear = Linear(scope / "classification_head", hidden_size, len(head.labels), bias=head.bias)

    def __call__(self, states_TD: Array, ids: Integers, spans: Spans, rows: Integers | None) -> tuple[Array, Spans]:
        if rows is not None:
            raise InputError("logits_at: this model scores whole sequences, not tokens. Call it without logits_at.")
        x = self._engine.dropout(self._pool(states_TD, ids, spans), self._spec.pooled_dropout)
        if self._pooler is not None:
            x = self._pooler(x, activation=self._spec.pooler)
        logits = self._linear(self._engine.dropout(x, self._spec.dropout))
        return logits, Spans.of_lengths(np.ones(len(spans), np.int64))


def build_pooling(
    engine: Engine, pooling: spec.Pooling | spec.LastOf | spec.LastExcept
) -> Callable[[Array, Integers, Spans], Array]:
    """Build a pooling: (T, D) states, (T,) ids and spans → (B, D), a vector for each sequence."""
    match pooling:
        case spec.Pooling():
            return lambda states_TD, ids, spans: engine.pool(states_TD, spans, pooling)
        case spec.LastOf():
            return lambda states_TD, ids, spans: engine.rows(states_TD, rows_of_last(pooling.token, ids, spans))
        case spec.LastExcept():
            return lambda states_TD, ids, spans: engine.rows(states_TD, rows_of_last_except(pooling.token, ids, spans))


def rows_of_last(token: int, ids: Integers, spans: Spans) -> Integers:
    """Find the last row with this id in each sequence: (B,).

    Raises:
        InputError: a sequence has none.
    """
    found = np.flatnonzero(ids == token)
    rows: Integers = np.concatenate([[-1], found])[np.searchsorted(found, spans.ends)]
    missing = np.flatnonzero(rows < spans.begins).tolist()
    if missing:
        raise InputError(
            f"Sequence {missing[0]} has no id {token}, the end of a text, at which this model scores it. "
            "Let the tokenizer put its special tokens round the text, or end the sequence with that id."
        )
    return rows


def rows_of_last_except(token: int, ids: Integers, spans: Spans) -> Integers:
    """Find the last row without this id in each sequence, or the first row where all have it: (B,)."""
    found = np.flatnonzero(ids != token)
    last: Integers = np.concatenate([[-1], found])[np.searchsorted(found, spans.ends)]
    return np.maximum(last, spans.begins)


def select_rows(engine: Engine, x_TD: Array, spans: Spans, rows: Integers | None) -> tuple[Array, Spans]:
    """Select ascending rows of a packed array, and the spans of the sequences among them; None selects all."""
    if rows is None:
        return x_TD, spans
    rows = np.asarray(rows, np.int64)
    if (rows[1:] <= rows[:-1]).any() or not len(rows) or rows[0] < 0 or rows[-1] >= x_TD.shape[0]:
        raise InputError(
            f"logits_at: expected ascending row numbers of the packed batch, from 0 to {x_TD.shape[0] - 1}, "
            f"got {rows.tolist()}."
        )
    if len(rows) == x_TD.shape[0]:
        return x_TD, spans
    selected = Spans(np.searchsorted(rows, spans.begins), np.searchsorted(rows, spans.ends))
    return engine.rows(x_TD, rows), selected


def build_head(scope: Scope, head: spec.Head | None, stack: spec.Stack, word: Scope) -> Head | None:
    """Build the head of a spec on the states of `stack`; a tied head projects with the table at `word`."""
    hidden_size = stack.embedding.hidden_size
    match head:
        case spec.LanguageHead():
            return LanguageHead(scope, head, stack, word)
        case spec.TokenHead():
            return TokenHead(scope / "classification_head", head, hidden_size, len(head.labels))
        case spec.SpanHead():
            return TokenHead(scope / "span_head", head, hidden_size, 2)
        case spec.SequenceHead():
            return SequenceHead(scope, head, hidden_size)
        case None:
            return None
