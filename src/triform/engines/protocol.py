"""The operations that every model is written against, and the things that engines and upper floors share.

An engine owns arrays: NumPy arrays or torch tensors, opaque to the layers, which hand them from one operation to the
next and do no arithmetic of their own. Operations are functional: none
changes its arguments. Arrays are contiguous in the order of their shape.

Shape letters, used in all tensor code:

    T  rows of a packed batch: the tokens of all its sequences, end to end
    S  rows of keys and values          B  sequences
    D  hidden_size                      N  num_attention_heads
    K  num_key_value_heads              H  head_dim
    F  intermediate_size                V  vocabulary or labels
    Q  queries of one sequence          R  distances between a query and a key
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats import Array, Format, Integers, Parameter, ParameterRole, StoredTensor
from triform.engines.key_values import KeyValues, KeyValueStore, PackedKeyValues, Spans
from triform.errors import EngineError
from triform.spec import Activation, Mask, Pooling

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class DistanceBias:
    """A number per head for every distance, added to the scaled scores: column r is for key − query = r − `zero`."""

    values: Array
    """(N, R), so that consecutive keys lie side by side."""
    zero: int


ProbabilityHook = Callable[[int, int, Array], Array]
"""(sequence, first query, probabilities (N, Q, keys)) → those to go on with. Called for consecutive queries."""


class Hook(Protocol):
    """What tracing records and interventions change; on the CPU engines the arithmetic is the same without one."""

    def wants(self, name: str) -> bool:
        """Whether to be shown the trace point of this name, such as `blocks.3.attention.query`."""

    def tensor(self, name: str, value: Array) -> Array:
        """Sees a tensor and returns the one to go on with."""

    def probabilities(self, name: str, sequence: int, first_query: int, value_NQK: Array) -> Array:
        """Sees attention probabilities of consecutive queries of one sequence, and returns those to go on with."""


class Dense(NamedTuple):
    """The parameters of a linear."""

    weight: Parameter
    """(out, in)"""
    bias: Parameter | None
    """(out,)"""


class Engine(ABC):
    """Where the arithmetic happens.

    A new engine implements the abstract operations; the others are compositions of them that it may fuse,
    as long as the result stays the same.
    """

    name: str
    formats: frozenset[Format]
    """The formats it can hold parameters in."""
    packing: str | None = None
    """Name and version of the form in which it holds the weights of linears, where a file of them is worth keeping."""
    is_batch_invariant: bool = False
    """Whether a sequence's results have the same bits alone, in any batch and through the KV cache."""
    page_size: int
    """Keys in a page of a key/value store: as many as its attention takes at a time."""

    def inference(self) -> AbstractContextManager[None]:
        """Inside, nobody will ask for gradients."""
        return nullcontext()

    def training(self, *, autocast: Format | None = None, recompute: bool = False) -> AbstractContextManager[None]:
        """Inside, dropout is on; elsewhere, and on engines without gradients, rates of dropout mean nothing.

        Arguments:
            autocast: a half precision for products, beside float32 for what needs its range; None for float32.
            recompute: whether a block keeps only its input, and is computed again for its gradients.

        Raises:
            EngineError: the engine has no gradients.
        """
        raise EngineError(f"The {self.name} engine has no gradients. Train with the torch engine.")

    # Parameters and arrays

    @abstractmethod
    def prepare(self, name: str, tensor: StoredTensor, format: Format, use: ParameterRole) -> Parameter:
        """Make a tensor of the checkpoint ready for all it is used for, in one of `formats`.

        `name` is its canonical name. It is called once for each parameter, however many layers share it.
        """

    def pack(self, tensor: StoredTensor, format: Format) -> StoredTensor:
        """The weight of a linear in the form that `packing` names."""
        raise NotImplementedError

    def adopt(self, packed: StoredTensor, shape: tuple[int, ...]) -> Parameter:
        """What `prepare` would make of the weight of a linear, (out, in), of what `pack` made of it."""
        raise NotImplementedError

    @abstractmethod
    def stored(self, parameter: Parameter) -> StoredTensor:
        """The inverse of `prepare`, for export; float formats come back as they were given."""

    @abstractmethod
    def asarray(self, values: NDArray[Any]) -> Array:
        """A NumPy array of ids, positions, row numbers or float32 numbers, as the engine's own."""

    @abstractmethod
    def to_numpy(self, x: Array) -> NDArray[Any]:
        """An array of the engine as a NumPy array."""

    # Token by token

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

    def dropout(self, x: Array, rate: float) -> Array:
        """While training, each number nought with probability `rate`, or else divided by 1 − rate.

        Srivastava et al. 2014, section 10, where what is kept is scaled so that inference need not be.
        """
        return x

    def keeps(self, rate: float) -> bool:
        """Whether a block is gone through: while training, it is passed over with probability `rate`."""
        return True

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

    # What gradients need

    def recomputed(self, compute: Callable[[Array], Array], x: Array) -> Array:
        """compute(x), which an engine may do again when gradients are wanted, to keep less until then."""
        return compute(x)

    def shared(self, compute: Callable[[], T]) -> T:
        """compute(), done once and kept where several blocks need it, though these be computed again."""
        return compute()

    # Between tokens

    @abstractmethod
    def transpose(self, x: Array) -> Array:
        """(R, N) → (N, R)."""

    @abstractmethod
    def rotary_table(self, positions: Array, frequencies: NDArray[np.float32]) -> Array:
        """Cosines and sines of positions · frequencies, in float32: (T,) and (H/2,) → one table for `rotary`."""

    @abstractmethod
    def rotary(self, x_TNH: Array, table: Array) -> Array:
        """Turn each pair of channels (i, i + dim/2) of the first dim = 2 · frequencies by its angle."""

    @abstractmethod
    def attention(
        self,
        query_TNH: Array,
        queries: Spans,
        keys: KeyValues,
        *,
        scale: float,
        mask: Mask = Mask.BIDIRECTIONAL,
        window: int | None = None,
        bias: DistanceBias | None = None,
        dropout: float = 0.0,
        probabilities: ProbabilityHook | None = None,
    ) -> Array:
        """dropout(softmax(scale · QKᵀ + bias))·V for every sequence by itself → (T, N, H).

        Query head n reads key/value head n // (N/K). Under a causal mask the last query of a sequence stands at its
        last key; with a window a query sees only keys nearer than that. Self, cross, cached and packed attention
        differ only in `queries` and `keys`. Probabilities are normalised before they meet V, so that a tap can change
        them without changing the arithmetic.
        """

    def key_values(self, key_SKH: Array, value_SKH: Array, spans: Spans) -> KeyValues:
        """Keys and values that many passes will read, as those of an encoder, in the form that attention reads best."""
        return PackedKeyValues(key_SKH, value_SKH, spans)

    @abstractmethod
    def key_value_store(self, layers: Sequence[tuple[int, int]]) -> KeyValueStore:
        """An empty store for layers of (num_key_value_heads, head_dim)."""

    # From tokens to answers

    @abstractmethod
    def rows(self, x: Array, indices: Integers) -> Array:
        """Some rows of a packed array: (T, D) → (len(indices), D)."""

    @abstractmethod
    def pool(self, x_TD: Array, spans: Spans, pooling: Pooling) -> Array:
        """One vector for each sequence: (T, D) → (B, D)."""

    @abstractmethod
    def normalize(self, x: Array) -> Array:
        """Rows divided by their Euclidean length."""

    @abstractmethod
    def top_k(self, x: Array, k: int) -> tuple[NDArray[np.float32], Integers]:
        """The k greatest of each row and where they stand, greatest first, the lower index first among equals."""

    @abstractmethod
    def top_log_probabilities(self, x: Array, k: int) -> tuple[NDArray[np.float32], Integers]:
        """`log_softmax(x)` where the k greatest of each row stand, and their places, in the order of `top_k`.

        A row that holds NaN or infinity has NaN for all.
        """

    @abstractmethod
    def log_softmax(self, x: Array) -> Array:
        """x − log Σ exp(x), over the last axis; −∞ stays what it is."""

    @abstractmethod
    def all_finite(self, x: Array) -> bool:
        """Whether no element is NaN or infinite."""
