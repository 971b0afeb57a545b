"""The native engine: kernels in C++ for what takes time, NumPy for the rest."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.formats import Format, Integers, ParameterRole, StoredTensor
from triform.engines.key_values import KeyValues, PackedKeyValues, PagedKeyValues, PageTable, Spans
from triform.engines.native.key_value_store import NativeStore
from triform.engines.native.parameter import NativeParameter, as_bytes, pack
from triform.engines.native.threads import num_threads
from triform.engines.protocol import Dense, DistanceBias, ProbabilityHook
from triform.engines.reference.engine import ReferenceEngine
from triform.engines.reference.floats import Floats
from triform.engines.reference.parameter import convert, float32
from triform.errors import EngineError
from triform.spec import Activation, Mask, Pooling

FORMATS = {format: _kernels.Format[format.name] for format in Format}
ACTIVATIONS: dict[Activation | None, _kernels.Activation] = {a: _kernels.Activation[a.name] for a in Activation}
ACTIVATIONS[None] = _kernels.Activation.NONE
POOLINGS = {pooling: _kernels.Pooling[pooling.name] for pooling in Pooling}

SMALL_ARRAY = 1 << 14
"""Numbers below which memory of the system's allocator costs no page faults."""

_kernels.set_num_threads(num_threads())


class NativeEngine(ReferenceEngine):
    """C++ on a CPU; computes in float32 whatever format the parameters have.

    The operations it does not have are the reference engine's: of rows, each by itself, so that they keep the promise.

    Arguments:
        instruction_set: one of `_kernels.instruction_sets()`; without it what `TRIFORM_ISA` says, or the best.

    Raises:
        EngineError: this machine does not have it.
    """

    name = "native"
    packing = f"blocks-of-{_kernels.BLOCK}-2"
    page_size = _kernels.BLOCK

    def __init__(self, instruction_set: str | None = None) -> None:
        usable = _kernels.instruction_sets()
        chosen = instruction_set or os.environ.get("TRIFORM_ISA") or usable[0]
        if chosen not in usable:
            raise EngineError(f"instruction set {chosen!r} cannot be used: this machine has {', '.join(usable)}.")
        self.instruction_set = chosen
        self._kernels = _kernels.Kernels(chosen)

    def prepare(self, name: str, tensor: StoredTensor, format: Format, use: ParameterRole) -> Any:
        if format not in self.formats:
            raise EngineError(f"{name}: the native engine cannot hold {format}. Choose from {sorted(self.formats)}.")
        if ParameterRole.LINEAR in use or format.is_integer:
            return self.adopt(self.pack(tensor, format), tensor.shape)
        converted = convert(tensor, format)
        # Kernels read rows end to end.
        array = np.ascontiguousarray(converted.array)
        vector = float32(StoredTensor(array, format)) if array.ndim == 1 else None
        return NativeParameter(array, format, tuple(array.shape), vector=vector)

    def pack(self, tensor: StoredTensor, format: Format) -> StoredTensor:
        return pack(convert(tensor, format))

    def adopt(self, packed: StoredTensor, shape: tuple[int, ...]) -> NativeParameter:
        out, in_ = shape
        weight = _kernels.Weight(as_bytes(packed.array), FORMATS[packed.format], in_, out)
        return NativeParameter(packed.array, packed.format, (out, in_), weight)

    def stored(self, parameter: NativeParameter) -> StoredTensor:  # type: ignore[override]
        return parameter.stored()

    def embedding(self, ids: Integers, table: NativeParameter) -> Floats:  # type: ignore[override]
        return table.rows(ids)

    def linear(  # type: ignore[override]
        self,
        x: Floats,
        weight: NativeParameter,
        bias: NativeParameter | None = None,
        *,
        activation: Activation | None = None,
        dropout: float = 0.0,
        residual: Floats | None = None,
    ) -> Floats:
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

    def linears(self, x: Floats, several: Sequence[Dense]) -> list[Floats]:
        if len({each.weight.format for each in several}) > 1:
            return super().linears(x, several)
        ys = [empty(len(x), each.weight.shape[0]) for each in several]
        weights, biases = zip(*map(_weight_and_bias, several), strict=True)
        self._kernels.projections(np.ascontiguousarray(x), weights, biases, ys)
        return ys

    def feed_forward(
        self,
        x: Floats,
        up: Dense,
        down: Dense,
        activation: Activation,
        *,
        gate: Dense | None = None,
        inner_dropout: float = 0.0,
        dropout: float = 0.0,
        residual: Floats | None = None,
    ) -> Floats:
        if gate is not None and gate.weight.format != up.weight.format:
            composed: Floats = super().feed_forward(x, up, down, activation, gate=gate, residual=residual)
            return composed
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

    def layer_norm(  # type: ignore[override]
        self, x: Floats, weight: NativeParameter, bias: NativeParameter, eps: float
    ) -> Floats:
        y = empty(*x.shape)
        self._kernels.layer_norm(np.ascontiguousarray(x), weight.vector, bias.vector, y, eps)
        return y

    def rms_norm(self, x: Floats, weight: NativeParameter, eps: float) -> Floats:  # type: ignore[override]
        y = empty(*x.shape)
        self._kernels.rms_norm(np.ascontiguousarray(x), weight.vector, y, eps)
        return y

    def attention(
        self,
        query_TNH: Floats,
        queries: Spans,
        keys: KeyValues,
        *,
        scale: float,
        mask: Mask = Mask.BIDIRECTIONAL,
        window: int | None = None,
        bias: DistanceBias | None = None,
        dropout: float = 0.0,
        probabilities: ProbabilityHook | None = None,
    ) -> Floats:
        output_TNH = empty(*query_TNH.shape)
        key, value, pages, spans, lengths = _where_keys_lie(keys)
        arguments = _kernels.AttentionArguments(
            query=query_TNH,
            output=output_TNH,
            keys=key,
            values=value,
            pages=pages,
            query_begins=queries.begins,
            query_ends=queries.ends,
            key_begins=spans.begins,
            num_keys=lengths,
            scale=scale,
            causal=mask is Mask.CAUSAL,
            window=window,
            bias=None if bias is None else bias.values,
            bias_zero=0 if bias is None else bias.zero,
        )
        if probabilities is None:
            self._kernels.attention(arguments)
            return output_TNH
        heads, groups = query_TNH.shape[1], key.shape[1]
        for sequence, (begin, end) in enumerate(queries.pairs()):
            if begin < end:
                num_keys = int(lengths[sequence])
                self._traced(arguments, sequence, end - begin, heads, groups, num_keys, probabilities)
        return output_TNH

    def _traced(
        self,
        arguments: _kernels.AttentionArguments,
        sequence: int,
        num_queries: int,
        heads: int,
        groups: int,
        num_keys: int,
        probabilities: ProbabilityHook,
    ) -> None:
        """Compute one sequence in two passes of the same kernel, and show the probabilities between them."""
        width = -(-num_keys // self.page_size) * self.page_size
        # Rows of a group are its heads for the first query, then for the next.
        p_KRS = np.zeros((groups, num_queries * heads // groups, width), np.float32)
        run: Any = {"sequence": sequence, "query_begin": 0, "query_end": num_queries, "probabilities": p_KRS}
        self._kernels.attention_probabilities(arguments, **run)
        p_KQGS = p_KRS.reshape(groups, num_queries, heads // groups, width)
        p_NQS = p_KQGS.transpose(0, 2, 1, 3).reshape(heads, num_queries, width)[..., :num_keys]
        changed = probabilities(sequence, 0, p_NQS)
        p_KQGS[..., :num_keys] = changed.reshape(groups, -1, num_queries, num_keys).transpose(0, 2, 1, 3)
        self._kernels.attention_values(arguments, **run)

    def key_values(self, key_SKH: Floats, value_SKH: Floats, spans: Spans) -> PagedKeyValues:
        """Keys and values in pages of their own."""
        _, groups, head_dim = key_SKH.shape
        size = self.page_size
        counts = -(-spans.lengths // size)
        page_spans = Spans.of_lengths(counts)
        places = np.arange(spans.lengths.sum()) - np.repeat(np.cumsum(spans.lengths) - spans.lengths, spans.lengths)
        slots = np.repeat(page_spans.begins, spans.lengths) * size + places
        table = PageTable(np.arange(counts.sum()), page_spans, spans.lengths, slots)
        store = self.key_value_store([(groups, head_dim)])
        store.grow(int(counts.sum()))
        rows = np.repeat(spans.begins, spans.lengths) + places
        is_all = len(rows) == len(key_SKH) and bool((np.diff(rows) == 1).all())
        key, value = (x if is_all else x[rows] for x in (key_SKH, value_SKH))
        store.write(0, np.ascontiguousarray(key), np.ascontiguousarray(value), table)
        return PagedKeyValues(store, 0, table)

    def key_value_store(self, layers: Sequence[tuple[int, int]]) -> Any:
        return NativeStore(layers, self._kernels)

    def embedding_sum(self, lookups: Sequence[tuple[Integers, NativeParameter]]) -> Floats:  # type: ignore[override]
        # A packed table is unpacked for the rows that are wanted, which are then read in order.
        read = [
            (np.arange(len(ids)), np.ascontiguousarray(table.rows(ids)), Format.FLOAT32)
            if table.is_packed
            else (np.ascontiguousarray(ids), table.array, table.format)
            for ids, table in lookups
        ]
        places, arrays, formats = zip(*read, strict=True)
        y = empty(len(places[0]), lookups[0][1].shape[1])
        self._kernels.embedding_sum([as_bytes(array) for array in arrays], [FORMATS[f] for f in formats], places, y)
        return y

    def rotary(self, x_TNH: Floats, table: Floats) -> Floats:
        y = empty(*x_TNH.shape)
        self._kernels.rotary(np.ascontiguousarray(x_TNH), table, y)
        return y

    def rows(self, x: Floats, indices: Integers) -> Floats:
        # Whoever asks has checked the indices; the mode that checks them fills an array of its own first.
        return x.take(indices, axis=0, out=empty(len(indices), *x.shape[1:]), mode="clip")

    def pool(self, x_TD: Floats, spans: Spans, pooling: Pooling) -> Floats:
        y = empty(len(spans), x_TD.shape[1])
        begins, ends = np.ascontiguousarray(spans.begins), np.ascontiguousarray(spans.ends)
        self._kernels.pool(np.ascontiguousarray(x_TD), begins, ends, POOLINGS[pooling], y)
        return y

    def normalize(self, x: Floats) -> Floats:
        y = empty(*x.shape)
        self._kernels.normalize(np.ascontiguousarray(x), y)
        return y

    def top_k(self, x: Floats, k: int) -> tuple[Floats, Integers]:
        values, indices = _room_for_top(x, k)
        self._kernels.top_k(np.ascontiguousarray(x), values, indices)
        return values, indices

    def top_log_probabilities(self, x: Floats, k: int) -> tuple[Floats, Integers]:
        values, indices = _room_for_top(x, k)
        self._kernels.top_log_probabilities(np.ascontiguousarray(x), values, indices)
        return values, indices

    def log_softmax(self, x: Floats) -> Floats:
        y = empty(*x.shape)
        self._kernels.log_softmax(np.ascontiguousarray(x), y)
        return y

    def all_finite(self, x: Floats) -> bool:
        return self._kernels.all_finite(np.ascontiguousarray(x))


def empty(*shape: int) -> Floats:
    """An array to be filled. The memory of a large one is used again when it has gone."""
    is_small = math.prod(shape) < SMALL_ARRAY
    return np.empty(shape, np.float32) if is_small else _kernels.empty(shape)


def _where_keys_lie(keys: KeyValues) -> tuple[Floats, Floats, Integers | None, Spans, Integers]:
    """Keys and values; for those in a store its pages; which rows or pages are whose; and how many keys each has."""
    if isinstance(keys, PackedKeyValues):
        key, value = np.ascontiguousarray(keys.key), np.ascontiguousarray(keys.value)
        return key, value, None, keys.spans, keys.spans.lengths
    if not isinstance(keys.store, NativeStore):
        raise EngineError("The key/value store belongs to another engine. Make it with this engine's key_value_store.")
    key, value = keys.store.keys[keys.layer], keys.store.values[keys.layer]
    return key, value, keys.table.pages, keys.table.spans, keys.table.lengths


def _room_for_top(x: Floats, k: int) -> tuple[Floats, Integers]:
    shape = len(x), min(k, x.shape[-1])
    return np.empty(shape, np.float32), np.empty(shape, np.int64)


def _weight_and_bias(dense: Dense) -> tuple[_kernels.Weight | None, Floats | None]:
    weight, bias = dense
    assert isinstance(weight, NativeParameter)
    return weight.weight, bias.vector if isinstance(bias, NativeParameter) else None
