"""Attention by its kernel, in one pass, or in two where probabilities are shown between them."""

from typing import Any

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.formats import Floats
from triform.engines.native.key_value_store import NativeStore
from triform.engines.native.memory import empty
from triform.engines.protocol import DistanceBias, Integers, KeyValues, PackedKeyValues, ProbabilityHook, Spans
from triform.errors import EngineError
from triform.spec import Mask

PROBABILITIES, VALUES = 1, 2
"""The two passes of attention, where somebody looks at what lies between."""


def attention(
    kernels: _kernels.Kernels,
    query_TNH: Floats,
    queries: Spans,
    keys: KeyValues,
    *,
    scale: float,
    mask: Mask,
    window: int | None,
    bias: DistanceBias | None,
    probabilities: ProbabilityHook | None,
) -> Floats:
    """Scaled dot-product attention. Vaswani et al. 2017, section 3.2.1; contract in `Engine.attention`."""
    output_TNH = empty(*query_TNH.shape)
    key, value, pages, spans, lengths = _where_keys_lie(keys)
    arguments = (
        np.ascontiguousarray(query_TNH),
        output_TNH,
        key,
        value,
        pages,
        np.ascontiguousarray(queries.begins),
        np.ascontiguousarray(queries.ends),
        np.ascontiguousarray(spans.begins),
        np.ascontiguousarray(lengths),
        scale,
        mask is Mask.CAUSAL,
        _kernels.NO_WINDOW if window is None else window,
        None if bias is None else np.ascontiguousarray(bias.values),
        0 if bias is None else bias.zero,
    )
    if probabilities is None:
        kernels.attention(*arguments)
        return output_TNH
    for sequence, (begin, end) in enumerate(queries.pairs()):
        if begin < end:
            _traced(kernels, arguments, sequence, end - begin, key.shape[1], int(lengths[sequence]), probabilities)
    return output_TNH


def _traced(
    kernels: _kernels.Kernels,
    arguments: tuple[Any, ...],
    sequence: int,
    num_queries: int,
    groups: int,
    num_keys: int,
    probabilities: ProbabilityHook,
) -> None:
    """One sequence in two passes of the same kernel, the probabilities shown between them."""
    heads = arguments[0].shape[1]
    width = -(-num_keys // _kernels.BLOCK) * _kernels.BLOCK
    # Rows of a group are its heads for the first query, then for the next.
    p_KRS = np.zeros((groups, num_queries * heads // groups, width), np.float32)
    kernels.attention(*arguments, sequence, PROBABILITIES, p_KRS)
    p_KQGS = p_KRS.reshape(groups, num_queries, heads // groups, width)
    p_NQS = p_KQGS.transpose(0, 2, 1, 3).reshape(heads, num_queries, width)[..., :num_keys]
    changed = probabilities(sequence, 0, p_NQS)
    p_KQGS[..., :num_keys] = changed.reshape(groups, -1, num_queries, num_keys).transpose(0, 2, 1, 3)
    kernels.attention(*arguments, sequence, VALUES, p_KRS)


def _where_keys_lie(keys: KeyValues) -> tuple[Floats, Floats, Integers | None, Spans, Integers]:
    """Keys and values; for those in a store its pages; which rows or pages are whose; and how many keys each has."""
    if isinstance(keys, PackedKeyValues):
        key, value = np.ascontiguousarray(keys.key), np.ascontiguousarray(keys.value)
        return key, value, None, keys.spans, keys.spans.lengths
    if not isinstance(keys.store, NativeStore):
        raise EngineError("The key/value store belongs to another engine. Make it with this engine's key_value_store.")
    key, value = keys.store.keys[keys.layer], keys.store.values[keys.layer]
    return key, value, keys.table.pages, keys.table.spans, keys.table.lengths
