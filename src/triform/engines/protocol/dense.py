"""Operations on each row by itself: embeddings, linears, feed-forward networks, norms."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

from triform.engines.protocol.arrays import Array, Parameter
from triform.engines.protocol.training import TrainingOperations
from triform.spec import Activation


class Dense(NamedTuple):
    """The parameters of a linear."""

    weight: Parameter
    """(out, in)"""
    bias: Parameter | None
    """(out,)"""


class DenseOperations(TrainingOperations, ABC):
    """Operations on each row by itself."""

    @abstractmethod
    def embedding(self, ids: Array, table: Parameter) -> Array:
        """Rows of a table: (T,) ids and (rows, D) → (T, D)."""

    def embedding_sum(self, lookups: Sequence[tuple[Array, Parameter]]) -> Array:
        """Rows of several tables, added in the order given: for each (T,) ids and (rows, D) → (T, D)."""
        return reduce(self.add, [self.embedding(ids, table) for ids, table in lookups])

    @abstractmethod
    def linear(
        self,
        x: Array,
        weight: Parameter,
        bias: Parameter | None = None,
        *,
        activation: Activation | None = None,
        dropout: float = 0.0,
        residual: Array | None = None,
    ) -> Array:
        """dropout(activation(x·weightᵀ + bias)) + residual: (T, in) and (out, in) → (T, out)."""

    def gated_linear(
        self,
        x: Array,
        gate: Parameter,
        up: Parameter,
        gate_bias: Parameter | None,
        up_bias: Parameter | None,
        activation: Activation,
    ) -> Array:
        """activation(x·gateᵀ) ⊙ (x·upᵀ): (T, D) → (T, F). Shazeer 2020, equation 5."""
        return self.multiply(self.linear(x, gate, gate_bias, activation=activation), self.linear(x, up, up_bias))

    def linears(self, x: Array, several: Sequence[Dense]) -> list[Array]:
        """x·weightᵀ + bias for several weights, such as those of queries, keys and values."""
        return [self.linear(x, *each) for each in several]

    def feed_forward(
        self,
        x: Array,
        up: Dense,
        down: Dense,
        activation: Activation,
        *,
        gate: Dense | None = None,
        inner_dropout: float = 0.0,
        dropout: float = 0.0,
        residual: Array | None = None,
    ) -> Array:
        """down(activation(up(x))) + residual, or with a gate down(activation(gate(x)) ⊙ up(x)) + residual.

        Of the inner states some are dropped, and of what `down` gives. (T, D) → (T, D). Vaswani et al. 2017,
        section 3.3; Shazeer 2020, equation 6.
        """
        if gate is None:
            inner = self.linear(x, *up, activation=activation)
        else:
            inner = self.gated_linear(x, gate.weight, up.weight, gate.bias, up.bias, activation)
        return self.linear(self.dropout(inner, inner_dropout), *down, dropout=dropout, residual=residual)

    @abstractmethod
    def layer_norm(self, x: Array, weight: Parameter, bias: Parameter, eps: float) -> Array:
        """(x − mean) / √(variance + eps) · weight + bias, over the last axis."""

    @abstractmethod
    def rms_norm(self, x: Array, weight: Parameter, eps: float) -> Array:
        """x / √(mean(x²) + eps) · weight, over the last axis."""

    @abstractmethod
    def add(self, x: Array, y: Array) -> Array:
        """x + y, of equal shapes."""

    @abstractmethod
    def multiply(self, x: Array, y: Array | float) -> Array:
        """x ⊙ y, of equal shapes, or x by a number."""
