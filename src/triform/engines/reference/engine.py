"""The reference engine: each operation of the protocol as its formula, on NumPy arrays."""

from collections.abc import Sequence

import numpy as np

from triform.engines.formats import FORMATS, Floats, Format, StoredTensor, convert
from triform.engines.numpy_operations import NumPyOperations
from triform.engines.protocol import (
    Bias,
    Integers,
    KeyValues,
    LayerCache,
    ParameterRole,
    ProbabilityHook,
    Spans,
    TypedEngine,
)
from triform.engines.reference.activation import activate
from triform.engines.reference.attention import attention
from triform.engines.reference.integer_linear import linear
from triform.engines.reference.key_value_store import ReferenceStore
from triform.engines.reference.parameter import ReferenceParameter
from triform.spec import Activation, Pooling, ScoreRule


class ReferenceEngine(NumPyOperations, TypedEngine[Floats, ReferenceParameter]):
    """NumPy on a CPU; the arithmetic is float32, except in products with integer weights."""

    name = "reference"
    formats = frozenset(FORMATS.values())
    page_size = 32

    def prepare(self, name: str, tensor: StoredTensor, format: Format, role: ParameterRole) -> ReferenceParameter:
        """Convert a tensor to `format`, and keep the tensor as stored."""
        self.check_format(name, format)
        return ReferenceParameter(convert(tensor, format))

    def stored(self, parameter: ReferenceParameter) -> StoredTensor:
        """Return the tensor that the parameter holds."""
        return parameter.tensor

    def embedding(self, ids: Integers, table: ReferenceParameter) -> Floats:
        """Look rows of a table up and widen only these: (T,) and (rows, D) → (T, D)."""
        return table.rows(ids)

    def linear(
        self,
        x: Floats,
        weight: ReferenceParameter,
        bias: ReferenceParameter | None = None,
        *,
        activation: Activation | None = None,
        dropout: float = 0.0,
        residual: Floats | None = None,
    ) -> Floats:
        """Compute activation(x·weightᵀ + bias) + residual: (T, in) and (out, in) → (T, out). No dropout."""
        y: Floats = linear(x, weight.tensor) if weight.format.is_integer else x @ weight.float32().T
        if bias is not None:
            y += bias.float32()
        if activation is not None:
            activate(y, activation)
        if residual is not None:
            y += residual
        return y

    def layer_norm(self, x: Floats, weight: ReferenceParameter, bias: ReferenceParameter, eps: float) -> Floats:
        """Compute (x − mean) / √(variance + eps) · weight + bias for each row: (T, D) → (T, D)."""
        y = x - x.mean(axis=-1, keepdims=True)
        y /= np.sqrt(_mean_square(y) + np.float32(eps))
        y *= weight.float32()
        y += bias.float32()
        return y

    def rms_norm(self, x: Floats, weight: ReferenceParameter, eps: float) -> Floats:
        """Compute x / √(mean(x²) + eps) · weight for each row: (T, D) → (T, D)."""
        y: Floats = x / np.sqrt(_mean_square(x) + np.float32(eps))
        y *= weight.float32()
        return y

    def rotary(self, x_TNH: Floats, table: Floats) -> Floats:
        """Rotate pairs of channels by the angles of the table: (T, N, H) and (2, T, dim/2) → (T, N, H)."""
        cos, sin = table[:, :, None, :]
        half = cos.shape[-1]
        first, second = x_TNH[..., :half], x_TNH[..., half : 2 * half]
        y = x_TNH.copy()
        y[..., :half] = first * cos - second * sin
        y[..., half : 2 * half] = second * cos + first * sin
        return y

    def attention(
        self,
        query_TNH: Floats,
        queries: Spans,
        keys: KeyValues,
        rule: ScoreRule,
        *,
        bias: Bias | None = None,
        dropout: float = 0.0,
        hook: ProbabilityHook | None = None,
    ) -> Floats:
        """Compute attention in runs of queries, with the scores in memory: (T, N, H) → (T, N, H)."""
        return attention(query_TNH, queries, keys, rule, bias, hook)

    def key_value_store(self, layers: Sequence[LayerCache]) -> ReferenceStore:
        """Make a store of two NumPy arrays for each layer."""
        return ReferenceStore(layers, self.page_size)

    def rows(self, x: Floats, indices: Integers) -> Floats:
        """Pick rows with NumPy's indexing: shape (T, …) → (len(indices), …)."""
        return x[indices]

    def pool(self, x_TD: Floats, spans: Spans, pooling: Pooling) -> Floats:
        """Pool one sequence after another: (T, D) → (B, D)."""
        return np.stack([_pool_one(x_TD[begin:end], pooling) for begin, end in spans.pairs()])

    def normalize(self, x: Floats) -> Floats:
        """Divide each row by its Euclidean length: (B, D) → (B, D)."""
        # Lengths below 1e-12 count as 1e-12, as in torch.nn.functional.normalize.
        lengths: Floats = np.sqrt(np.square(x).sum(axis=-1, keepdims=True))
        return x / np.maximum(lengths, np.float32(1e-12))

    def top_k(self, x: Floats, k: int) -> tuple[Floats, Integers]:
        """Find the k greatest numbers of each row by partition, and their indices: (B, V) → (B, k) each."""
        indices = np.array([_top(row, k) for row in x])
        return np.take_along_axis(x, indices, axis=-1), indices

    def top_log_probabilities(self, x: Floats, k: int) -> tuple[Floats, Integers]:
        """Take the k greatest of the whole `log_softmax`: (B, V) → (B, k) each."""
        x = np.where(np.isfinite(x).all(axis=-1, keepdims=True), x, np.float32(np.nan))
        _, indices = self.top_k(x, k)
        return np.take_along_axis(self.log_softmax(x), indices, axis=-1), indices

    def log_softmax(self, x: Floats) -> Floats:
        """Compute x − max − log Σ exp(x − max) for each row: (B, V) → (B, V)."""
        y: Floats = x - x.max(axis=-1, keepdims=True)
        y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
        return y

    def all_finite(self, x: Floats) -> bool:
        """Check with NumPy that an array of any shape holds neither NaN nor infinity."""
        return bool(np.isfinite(x).all())


def _mean_square(x: Floats) -> Floats:
    """Compute mean(x²) over the last axis: (…, D) → (…, 1)."""
    # einsum would sum long rows in pieces that depend on the number of rows.
    return np.vecdot(x, x)[..., None] / np.float32(x.shape[-1])


def _top(x: Floats, k: int) -> Integers:
    """Find the indices of the k greatest of a vector (V,), in order, without sorting all → (k,)."""
    k = min(k, len(x))
    if k == 1:
        return x.argmax(axis=0, keepdims=True)
    candidates = np.flatnonzero(~(x < np.partition(x, -k)[-k]))
    return candidates[np.argsort(-x[candidates], kind="stable")[:k]]


def _pool_one(x_TD: Floats, pooling: Pooling) -> Floats:
    """Pool the rows of one sequence: (T, D) → (D,)."""
    length = len(x_TD)
    match pooling:
        case Pooling.FIRST:
            return x_TD[0]
        case Pooling.LAST:
            return x_TD[-1]
        case Pooling.MAX:
            return x_TD.max(axis=0)
        case Pooling.MEAN:
            return x_TD.sum(axis=0) / np.float32(length)
        case Pooling.MEAN_SQRT_LENGTH:
            return x_TD.sum(axis=0) / np.float32(length**0.5)
        case Pooling.WEIGHTED_MEAN:
            weights = np.arange(1, length + 1, dtype=np.float32)
            return weights @ x_TD / weights.sum()
