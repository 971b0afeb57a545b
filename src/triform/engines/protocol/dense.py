"""Operations that treat each row by itself: embeddings, linears, feed-forward networks, norms."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import Generic, NamedTuple

from triform.engines.protocol.arrays import ArrayT, ParameterT
from triform.engines.protocol.training import TrainingOperations
from triform.spec import Activation


class Dense(NamedTuple, Generic[ParameterT]):
    """The parameters of a linear."""

    weight: ParameterT
    """(out, in)"""
    bias: ParameterT | None
    """(out,)"""


class DenseOperations(TrainingOperations[ArrayT], ABC, Generic[ArrayT, ParameterT]):
    """An engine computes the rows of a packed batch, each row by itself."""

    @abstractmethod
    def embedding(self, ids: ArrayT, table: ParameterT) -> ArrayT:
        """Look rows of a table up: (T,) ids and (rows, D) → (T, D)."""

    def embedding_sum(self, lookups: Sequence[tuple[ArrayT, ParameterT]]) -> ArrayT:
        """Look rows of several tables up and add them in the order given: (T,) ids and (rows, D) each → (T, D)."""
        return reduce(self.add, [self.embedding(ids, table) for ids, table in lookups])

    @abstractmethod
    def linear(
        self,
        x: ArrayT,
        weight: ParameterT,
        bias: ParameterT | None = None,
        *,
        activation: Activation | None = None,
        dropout: float = 0.0,
        residual: ArrayT | None = None,
    ) -> ArrayT:
        """Compute dropout(activation(x·weightᵀ + bias)) + residual: (T, in) and (out, in) → (T, out)."""

    def gated_linear(
        self,
        x: ArrayT,
        gate: ParameterT,
        up: ParameterT,
        gate_bias: ParameterT | None,
        up_bias: ParameterT | None,
        activation: Activation,
    ) -> ArrayT:
        """Compute activation(x·gateᵀ) ⊙ (x·upᵀ): (T, D) → (T, F). Shazeer 2020, equation 5."""
        return self.multiply(self.linear(x, gate, gate_bias, activation=activation), self.linear(x, up, up_bias))

    def linears(self, x: ArrayT, several: Sequence[Dense[ParameterT]]) -> list[ArrayT]:
        """Compute x·weightᵀ + bias for several weights, for example query, key and value: (T, in) → (T, out) each."""
        return [self.linear(x, *each) for each in several]

    def feed_forward(
        self,
        x: ArrayT,
        up: Dense[ParameterT],
        down: Dense[ParameterT],
        activation: Activation,
        *,
        gate: Dense[ParameterT] | None = None,
        inner_dropout: float = 0.0,
        dropout: float = 0.0,
        residual: ArrayT | None = None,
    ) -> ArrayT:
        """Compute down(activation(up(x))) + residual, or with a gate down(activation(gate(x)) ⊙ up(x)) + residual.

        `inner_dropout` is the rate for the input of `down`, `dropout` for its output. (T, D) → (T, D). Vaswani et al.
        2017, section 3.3; Shazeer 2020, equation 6.
        """
        if gate is None:
            inner = self.linear(x, *up, activation=activation)
        else:
            inner = self.gated_linear(x, gate.weight, up.weight, gate.bias, up.bias, activation)
        return self.linear(self.dropout(inner, inner_dropout), *down, dropout=dropout, residual=residual)

    @abstractmethod
    def layer_norm(self, x: ArrayT, weight: ParameterT, bias: ParameterT, eps: float) -> ArrayT:
        """Compute (x − mean) / √(variance + eps) · weight + bias over the last axis: (T, D) → (T, D)."""

    @abstractmethod
    def rms_norm(self, x: ArrayT, weight: ParameterT, eps: float) -> ArrayT:
        """Compute x / √(mean(x²) + eps) · weight over the last axis: (T, D) → (T, D)."""

    @abstractmethod
    def add(self, x: ArrayT, y: ArrayT) -> ArrayT:
        """Add two arrays of equal shapes."""

    @abstractmethod
    def multiply(self, x: ArrayT, y: ArrayT | float) -> ArrayT:
        """Multiply two arrays of equal shapes, or an array by a number."""
