"""σ(QKᵀ·scale + bias)·V, one sequence after another, so that no padding exists and none sees another's keys."""

import numpy as np

from triform.engines.formats import Floats
from triform.engines.protocol import DistanceBias, KeyValues, PackedKeyValues, ProbabilityHook, Spans
from triform.engines.reference.key_value_store import ReferenceStore
from triform.errors import EngineError
from triform.spec import Mask

QUERIES = 128
"""Queries at a time: scores exist for so many of one sequence, never for a whole long one."""


def attention(
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
    output_TNH = np.empty_like(query_TNH)
    for sequence, (begin, end) in enumerate(queries.pairs()):
        if begin == end:
            continue
        key_SKH, value_SKH = keys_of(keys, sequence)
        num_keys = len(key_SKH)
        for first in range(0, end - begin, QUERIES):
            rows = slice(begin + first, min(begin + first + QUERIES, end))
            position = num_keys - (end - begin) + first  # of this first query among the keys
            last = position + (rows.stop - rows.start)
            seen = last if mask is Mask.CAUSAL else num_keys
            p_NQS = scores(query_TNH[rows], key_SKH[:seen], scale)
            distance_QS = np.arange(seen) - np.arange(position, last)[:, None]
            if bias is not None:
                p_NQS += bias.values[:, distance_QS + bias.zero]
            if mask is Mask.CAUSAL:
                p_NQS[:, distance_QS > 0] = -np.inf
            if window is not None:
                p_NQS[:, np.abs(distance_QS) >= window] = -np.inf
            softmax(p_NQS)
            if probabilities is not None:
                p_NQS = probabilities(sequence, first, p_NQS)
            output_TNH[rows] = weighted_values(p_NQS, value_SKH[:seen])
    return output_TNH


def keys_of(keys: KeyValues, sequence: int) -> tuple[Floats, Floats]:
    """The keys and values of one sequence, (S, K, H) each."""
    if isinstance(keys, PackedKeyValues):
        rows = slice(int(keys.spans.begins[sequence]), int(keys.spans.ends[sequence]))
        return keys.key[rows], keys.value[rows]
    if not isinstance(keys.store, ReferenceStore):
        raise EngineError("The key/value store belongs to another engine. Make it with this engine's key_value_store.")
    return keys.store.read(keys.layer, keys.table, sequence)


def scores(query_QNH: Floats, key_SKH: Floats, scale: float) -> Floats:
    """Scale · QKᵀ → (N, Q, S); the N/K queries of a group meet the same keys."""
    num_queries, num_heads, head_dim = query_QNH.shape
    num_keys, num_groups, _ = key_SKH.shape
    grouped = (query_QNH * np.float32(scale)).reshape(num_queries, num_groups, -1, head_dim).transpose(1, 2, 0, 3)
    product = grouped @ key_SKH.transpose(1, 2, 0)[:, None]
    return product.reshape(num_heads, num_queries, num_keys)


def softmax(x: Floats) -> None:
    """exp(x − max) / Σ exp(x − max) over the last axis, in place."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)


def weighted_values(p_NQS: Floats, value_SKH: Floats) -> Floats:
    """PV → (Q, N, H)."""
    num_heads, num_queries, num_keys = p_NQS.shape
    _, num_groups, head_dim = value_SKH.shape
    grouped = p_NQS.reshape(num_groups, -1, num_queries, num_keys) @ value_SKH.transpose(1, 0, 2)[:, None]
    return grouped.reshape(num_heads, num_queries, head_dim).transpose(1, 0, 2)
