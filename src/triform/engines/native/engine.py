"""The native engine: kernels in C++, and plain NumPy for operations without a kernel."""

import os
import warnings
from collections.abc import Sequence

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.formats import FORMATS, Floats, Format, StoredTensor, convert, to_float32
from triform.engines.native.attention import attention
from triform.engines.native.key_value_store import NativeStore, in_pages
from triform.engines.native.memory import empty
from triform.engines.native.parameter import NativeParameter, as_bytes, pack, packed_size
from triform.engines.native.threads import num_threads
from triform.engines.numpy_operations import NumPyOperations
from triform.engines.protocol import (
    Bias,
    Dense,
    Integers,
    KeyValues,
    LayerCache,
    PagedKeyValues,
    ParameterRole,
    ProbabilityHook,
    Spans,
    TypedEngine,
)
from triform.errors import EngineError, EngineWarning, WeightError
from triform.spec import Activation, Pooling, ScoreRule

FORMAT_CODES = {format: _kernels.Format[name.upper()] for name, format in FORMATS.items()}
ACTIVATIONS: dict[Activation | None, _kernels.Activation] = {
    each: _kernels.Activation[each.name] for each in Activation
}
ACTIVATIONS[None] = _kernels.Activation.NONE
POOLINGS = {pooling: _kernels.Pooling[pooling.name] for pooling in Pooling}

_kernels.set_num_threads(num_threads())


class NativeEngine(NumPyOperations, TypedEngine[Floats, NativeParameter]):
    """Kernels in C++ on a CPU, in float32 whatever format the parameters have.

    Batch-invariant: a sequence has the same bits alone, in any batch and through the KV cache.

    Arguments:
        instruction_set: one of `_kernels.instruction_sets()`; None for `TRIFORM_ISA`, or else the best of the machine.

    Raises:
        EngineError: this machine does not have the instruction set.
    """

    name = "native"
    formats = frozenset(FORMAT_CODES)
    packing = f"blocks-of-{_kernels.BLOCK}-2"
    is_batch_invariant = True
    page_size = _kernels.BLOCK

    def __init__(self, instruction_set: str | None = None) -> None:
        usable = _kernels.instruction_sets()
        chosen = instruction_set or os.environ.get("TRIFORM_ISA") or usable[0]
        if chosen not in usable:
            raise EngineError(f"instruction set {chosen!r} cannot be used: this machine has {', '.join(usable)}.")
        self.instruction_set = chosen
        self._kernels = _kernels.Kernels(chosen)
        if missing := _kernels.num_missing_threads():
            warnings.warn(
                f"The system did not start {missing} of the kernels' threads, so the kernels run on "
                f"{_kernels.num_threads()}. Raise the limit on processes or memory, or lower TRIFORM_THREADS.",
                EngineWarning,
                stacklevel=2,
            )

    def prepare(self, name: str, tensor: StoredTensor, format: Format, role: ParameterRole) -> NativeParameter:
        """Pack a linear's weight, or any integer weight, in blocks of output channels; keep other tensors as stored."""
        self.check_format(name, format)
        if ParameterRole.LINEAR in role or format.is_integer:
            return self.adopt(self.pack(tensor, format), tensor.shape)
        converted = convert(tensor, format)
        # Kernels read rows end to end.
        array = np.ascontiguousarray(converted.array)
        vector = to_float32(StoredTensor(array, format)) if array.ndim == 1 else None
        return NativeParameter(array, format, FORMAT_CODES[format], tuple(array.shape), vector=vector)

    def pack(self, tensor: StoredTensor, format: Format) -> StoredTensor:
        """Lay a weight (out, in) in blocks of output channels, in `format`."""
        return pack(convert(tensor, format))

    def adopt(self, packed: StoredTensor, shape: tuple[int, ...]) -> NativeParameter:
        """Make a linear's parameter from a weight in blocks, without a copy.

        Raises:
            WeightError: the blocks do not have the size of such a weight.
        """
        out, in_ = shape
        code = FORMAT_CODES[packed.format]
        if packed.array.nbytes != (size := packed_size(packed.format, out, in_)):
            raise WeightError(f"A packed weight of shape {shape} has {packed.array.nbytes} bytes; expected {size}.")
        weight = _kernels.Weight(as_bytes(packed.array), code, in_, out)
        return NativeParameter(packed.array, packed.format, code, (out, in_), weight)

    def stored(self, parameter: NativeParameter) -> StoredTensor:
        """Return the tensor unpacked."""
        return parameter.stored()

    def embedding(self, ids: Integers, table: NativeParameter) -> Floats:
        """Look rows of a table up, packed or not: (T,) and (rows, D) → (T, D)."""
        return table.rows(ids)

    def linear(
        self,
        x: Floats,
        weight: NativeParameter,
        bias: NativeParameter | None = None,
        *,
        activation: Activation | None = None,
        dropout: float = 0.0,
        residual: Floats | None = None,
    ) -> Floats:
        """Compute activation(x·weightᵀ + bias) + residual in one kernel: (T, in) → (T, out). No dropout."""
        y = empty(len(x), weight.shape[0])
        self._kernels.linear(
            np.ascontiguousarray(x),
            weight.weight,
            None if bias is None else bias.vector,
            None if residual is None else np.ascontiguousarray(residual),
            y,
            ACTIVATIONS[activation],
        )
        return y

    def linears(self, x: Floats, several: Sequence[Dense[NativeParameter]]) -> list[Floats]:
        """Compute several linears in one kernel, if all weights have equal formats: (T, in) → (T, out) each."""
        if len({each.weight.code for each in several}) > 1:
            return super().linears(x, several)
        ys = [empty(len(x), each.weight.shape[0]) for each in several]
        weights, biases = zip(*map(_weight_and_bias, several), strict=True)
        self._kernels.projections(np.ascontiguousarray(x), weights, biases, ys)
        return ys

    def feed_forward(
        self,
        x: Floats,
        up: Dense[NativeParameter],
        down: Dense[NativeParameter],
        activation: Activation,
        *,
        gate: Dense[NativeParameter] | None = None,
        inner_dropout: float = 0.0,
        dropout: float = 0.0,
        residual: Floats | None = None,
    ) -> Floats:
        """Compute the feed-forward network in one kernel, if gate and up have equal formats: (T, D) → (T, D)."""
        if gate is not None and gate.weight.code != up.weight.code:
            return super().feed_forward(x, up, down, activation, gate=gate, residual=residual)
        y = empty(len(x), down.weight.shape[0])
        gate_weight, gate_bias = (None, None) if gate is None else _weight_and_bias(gate)
        up_weight, up_bias = _weight_and_bias(up)
        down_weight, down_bias = _weight_and_bias(down)
        self._kernels.feed_forward(
            x,
            gate=gate_weight,
            gate_bias=gate_bias,
            up=up_weight,
            up_bias=up_bias,
            down=down_weight,
            down_bias=down_bias,
            activation=ACTIVATIONS[activation],
            residual=residual,
            y=y,
        )
        return y

    def layer_norm(self, x: Floats, weight: NativeParameter, bias: NativeParameter, eps: float) -> Floats:
        """Compute LayerNorm of each row by a kernel: (T, D) → (T, D)."""
        y = empty(*x.shape)
        self._kernels.layer_norm(np.ascontiguousarray(x), weight.vector, bias.vector, y, eps)
        return y

    def rms_norm(self, x: Floats, weight: NativeParameter, eps: float) -> Floats:
        """Compute RMSNorm of each row by a kernel: (T, D) → (T, D)."""
        y = empty(*x.shape)
        self._kernels.rms_norm(np.ascontiguousarray(x), weight.vector, y, eps)
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
        """Compute attention by kernels that store scores only for a hook: (T, N, H) → (T, N, H)."""
        return attention(self._kernels, query_TNH, queries, keys, rule, bias, hook)

    def key_values(self, key_SKH: Floats, value_SKH: Floats, spans: Spans) -> PagedKeyValues:
        """Copy keys and values to pages, in the layout of the attention kernel: (S, K, H) each."""
        return in_pages(self._kernels, key_SKH, value_SKH, spans)

    def key_value_store(self, layers: Sequence[LayerCache]) -> NativeStore:
        """Make a store in the layout of the attention kernel."""
        return NativeStore(layers, self._kernels)

    def embedding_sum(self, lookups: Sequence[tuple[Integers, NativeParameter]]) -> Floats:
        """Add rows of several tables in one kernel: (T,) and (rows, D) each → (T, D)."""
        # Rows of a packed table are unpacked first, and then read in order.
        read = [
            (np.arange(len(ids)), np.ascontiguousarray(table.rows(ids)), FORMAT_CODES[Format.FLOAT32])
            if table.is_packed
            else (np.ascontiguousarray(ids), table.array, table.code)
            for ids, table in lookups
        ]
        places, arrays, codes = zip(*read, strict=True)
        y = empty(len(places[0]), lookups[0][1].shape[1])
        self._kernels.embedding_sum([as_bytes(array) for array in arrays], list(codes), places, y)
        return y

    def rotary(self, x_TNH: Floats, table: Floats) -> Floats:
        """Rotate pairs of channels by a kernel: (T, N, H) and (2, T, dim/2) → (T, N, H)."""
        y = empty(*x_TNH.shape)
        self._kernels.rotary(np.ascontiguousarray(x_TNH), table, y)
        return y

    def rows(self, x: Floats, indices: Integers) -> Floats:
        """Pick rows with NumPy's `take`: shape (T, …) → (len(indices), …)."""
        # Callers have checked the indices; numpy's checking mode would fill a second array first.
        return x.take(indices, axis=0, out=empty(len(indices), *x.shape[1:]), mode="clip")

    def pool(self, x_TD: Floats, spans: Spans, pooling: Pooling) -> Floats:
        """Pool the rows of each sequence by a kernel: (T, D) → (B, D)."""
        y = empty(len(spans), x_TD.shape[1])
        begins, ends = np.ascontiguousarray(spans.begins), np.ascontiguousarray(spans.ends)
        self._kernels.pool(np.ascontiguousarray(x_TD), begins, ends, POOLINGS[pooling], y)
        return y

    def normalize(self, x: Floats) -> Floats:
        """Divide each row by its Euclidean length: (B, D) → (B, D)."""
        y = empty(*x.shape)
        self._kernels.normalize(np.ascontiguousarray(x), y)
        return y

    def top_k(self, x: Floats, k: int) -> tuple[Floats, Integers]:
        """Find the k greatest numbers of each row by a kernel, and their indices: (B, V) → (B, k) each."""
        values, indices = _room_for_top(x, k)
        self._kernels.top_k(np.ascontiguousarray(x), values, indices)
        return values, indices

    def top_log_probabilities(self, x: Floats, k: int) -> tuple[Floats, Integers]:
        """Find the k greatest log-probabilities without the others in memory: (B, V) → (B, k) each."""
        values, indices = _room_for_top(x, k)
        self._kernels.top_log_probabilities(np.ascontiguousarray(x), values, indices)
        return values, indices

    def log_softmax(self, x: Floats) -> Floats:
        """Compute log-softmax of each row by a kernel: (B, V) → (B, V)."""
        y = empty(*x.shape)
        self._kernels.log_softmax(np.ascontiguousarray(x), y)
        return y

    def all_finite(self, x: Floats) -> bool:
        """Check by a kernel that an array of any shape holds neither NaN nor infinity."""
        return self._kernels.all_finite(np.ascontiguousarray(x))


def _room_for_top(x: Floats, k: int) -> tuple[Floats, Integers]:
    """Allocate values and indices (B, k) of the k greatest numbers of each row, (B, V)."""
    shape = len(x), min(k, x.shape[-1])
    return np.empty(shape, np.float32), np.empty(shape, np.int64)


def _weight_and_bias(dense: Dense[NativeParameter]) -> tuple[_kernels.Weight | None, Floats | None]:
    weight, bias = dense
    return weight.weight, None if bias is None else bias.vector
