"""softmax(scale · QKᵀ + bias)·V, sequence by sequence and without padding."""

import numpy as np

from triform.engines.formats import Floats
from triform.engines.protocol import (
    Bias,
    DistanceBias,
    Integers,
    KeyValues,
    PackedKeyValues,
    ProbabilityHook,
    Spans,
    split_queries,
)
from triform.engines.reference.key_value_store import ReferenceStore
from triform.errors import EngineError
from triform.spec import Causal, Mask, ScoreRule

QUERIES = 128
"""Most queries at a time: scores exist for these queries of one sequence, never for a whole long sequence."""


def attention(
    query_TNH: Floats,
    queries: Spans,
    keys: KeyValues,
    rule: ScoreRule,
    bias: Bias | None,
    hook: ProbabilityHook | None,
) -> Floats:
    """Scaled dot-product attention. Vaswani et al. 2017, section 3.2.1; contract in `Engine.attention`."""
    output_TNH = np.empty_like(query_TNH)
    num_keys = keys.spans.lengths if isinstance(keys, PackedKeyValues) else keys.table.lengths
    for run in split_queries(queries, num_keys, rule.mask, query_TNH.shape[1], most_queries=QUERIES):
        query_QNH = query_TNH[run.rows]
        key_SKH, value_SKH = (x[: run.num_keys] for x in keys_of(keys, run.sequence))
        distance_QS = np.arange(run.num_keys) - np.arange(run.position, run.position + run.num_queries)[:, None]
        p_NQS = scores(query_QNH, key_SKH, rule.scale)
        if bias is not None:
            p_NQS += bias_scores(bias, query_QNH, key_SKH, rule.scale, distance_QS)
        hide_keys(p_NQS, rule.mask, distance_QS)
        softmax(p_NQS)
        if hook is not None:
            p_NQS = hook.apply(run, p_NQS)
        output_TNH[run.rows] = weighted_values(p_NQS, value_SKH)
    return output_TNH


def keys_of(keys: KeyValues, sequence: int) -> tuple[Floats, Floats]:
    """Find the keys and values of a sequence, (S, K, H) each."""
    if isinstance(keys, PackedKeyValues):
        rows = slice(int(keys.spans.begins[sequence]), int(keys.spans.ends[sequence]))
        return keys.key[rows], keys.value[rows]
    if not isinstance(keys.store, ReferenceStore):
        raise EngineError("The key/value store belongs to another engine. Make it with this engine's key_value_store.")
    return keys.store.read(keys.layer, keys.table, sequence)


def scores(query_QNH: Floats, key_SKH: Floats, scale: float) -> Floats:
    """Compute scale · QKᵀ → (N, Q, S); the N/K queries of a group meet the same keys."""
    num_queries, num_heads, head_dim = query_QNH.shape
    num_keys, num_groups, _ = key_SKH.shape
    grouped = (query_QNH * np.float32(scale)).reshape(num_queries, num_groups, -1, head_dim).transpose(1, 2, 0, 3)
    product = grouped @ key_SKH.transpose(1, 2, 0)[:, None]
    return product.reshape(num_heads, num_queries, num_keys)


def bias_scores(bias: Bias, query_QNH: Floats, key_SKH: Floats, scale: float, distance_QS: Integers) -> Floats:
    """Compute the bias on the scores, (N, Q, S), for the distances key − query."""
    if isinstance(bias, DistanceBias):
        return bias.values[:, distance_QS + bias.zero]
    rows_QS = bias.rows[distance_QS + bias.zero]
    from_queries_NQS = np.take_along_axis(scores(query_QNH, bias.key, scale), rows_QS[None], axis=2)
    from_keys_NQS = np.take_along_axis(scores(bias.query, key_SKH, scale), rows_QS[None], axis=1)
    return from_queries_NQS + from_keys_NQS


def hide_keys(scores_NQS: Floats, mask: Mask, distance_QS: Integers) -> None:
    """Set the scores of hidden keys to −∞, in place."""
    if isinstance(mask, Causal):
        scores_NQS[:, distance_QS > 0] = -np.inf
    if mask.window is not None:
        scores_NQS[:, np.abs(distance_QS) >= mask.window] = -np.inf


def softmax(x: Floats) -> None:
    """Compute exp(x − max) / Σ exp(x − max) over the last axis of (N, Q, S), in place."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)


def weighted_values(p_NQS: Floats, value_SKH: Floats) -> Floats:
    """Compute PV → (Q, N, H)."""
    num_heads, num_queries, num_keys = p_NQS.shape
    _, num_groups, head_dim = value_SKH.shape
    grouped = p_NQS.reshape(num_groups, -1, num_queries, num_keys) @ value_SKH.transpose(1, 0, 2)[:, None]
    return grouped.reshape(num_heads, num_queries, head_dim).transpose(1, 0, 2)
