"""softmax(QKᵀ·scale + bias)·V over buckets of sequences of equal lengths, so that nothing is padded."""

import numpy as np
import torch

from triform.engines.formats import Integers
from triform.engines.protocol import DistanceBias, KeyValues, PackedKeyValues, ProbabilityTap, Spans
from triform.engines.torch.key_value_store import TorchStore
from triform.errors import EngineError
from triform.spec import Mask


def attention(
    query_TNH: torch.Tensor,
    queries: Spans,
    keys: KeyValues,
    *,
    scale: float,
    mask: Mask,
    window: int | None,
    bias: DistanceBias | None,
    probabilities: ProbabilityTap | None,
) -> torch.Tensor:
    """Scaled dot-product attention. Vaswani et al. 2017, section 3.2.1; contract in `Engine.attention`."""
    num_keys = keys.spans.lengths if isinstance(keys, PackedKeyValues) else keys.table.lengths
    shapes, bucket_of = np.unique(np.stack([queries.lengths, num_keys]), axis=1, return_inverse=True)
    contexts, places = [], []
    for bucket, (num_queries, num_own_keys) in enumerate(shapes.T.tolist()):
        sequences = np.flatnonzero(bucket_of == bucket)
        rows_BQ = queries.begins[sequences][:, None] + np.arange(num_queries)
        rows = torch.from_numpy(rows_BQ.ravel()).to(query_TNH.device)
        query = query_TNH[rows].view(*rows_BQ.shape, *query_TNH.shape[1:])
        key, value = _keys_of(keys, sequences, num_own_keys, query_TNH.device)
        seen = _mask(num_queries, num_own_keys, mask, window, bias, query.device)
        if probabilities is None:
            context = _fused(query, key, value, seen, scale)
        else:
            context = _traced(query, key, value, seen, scale, sequences, probabilities)
        contexts.append(context.flatten(0, 1))
        places.append(rows)
    order = torch.argsort(torch.cat(places))
    return torch.cat(contexts)[order]


def _keys_of(
    keys: KeyValues, sequences: Integers, num_keys: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, S, K, H) keys and values of sequences that have `num_keys` each."""
    if isinstance(keys, PackedKeyValues):
        rows_BS = torch.from_numpy(keys.spans.begins[sequences][:, None] + np.arange(num_keys)).to(device)
        return keys.key[rows_BS], keys.value[rows_BS]
    if not isinstance(keys.store, TorchStore):
        raise EngineError("The key/value store belongs to another engine. Make it with this engine's key_value_store.")
    return keys.store.read(keys.layer, keys.table, sequences, num_keys)


def _mask(
    num_queries: int, num_keys: int, mask: Mask, window: int | None, bias: DistanceBias | None, device: torch.device
) -> torch.Tensor | None:
    """What to add to the scores, (Q, S) or (N, Q, S); None for nothing."""
    if mask is Mask.BIDIRECTIONAL and window is None and bias is None:
        return None
    positions = torch.arange(num_keys - num_queries, num_keys, device=device)
    distance_QS = torch.arange(num_keys, device=device) - positions[:, None]
    hidden = torch.zeros_like(distance_QS, dtype=torch.bool)
    if mask is Mask.CAUSAL:
        hidden |= distance_QS > 0
    if window is not None:
        hidden |= distance_QS.abs() >= window
    if bias is None:
        return torch.zeros(hidden.shape, device=device).masked_fill(hidden, -torch.inf)
    # Keys to the right of a causal query may lie outside the table; they are hidden anyway.
    columns = (distance_QS + bias.zero).clamp(0, bias.values.shape[1] - 1)
    added: torch.Tensor = bias.values[:, columns]
    return added.masked_fill(hidden, -torch.inf)


def _fused(
    query_BQNH: torch.Tensor,
    key_BSKH: torch.Tensor,
    value_BSKH: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """(B, Q, N, H) by torch's own kernel."""
    query, key, value = (x.transpose(1, 2) for x in (query_BQNH, key_BSKH, value_BSKH))
    context = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )
    return context.transpose(1, 2)


def _traced(
    query_BQNH: torch.Tensor,
    key_BSKH: torch.Tensor,
    value_BSKH: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    sequences: Integers,
    probabilities: ProbabilityTap,
) -> torch.Tensor:
    """(B, Q, N, H), each sequence's probabilities shown on the way."""
    group_size = query_BQNH.shape[2] // key_BSKH.shape[2]
    key, value = (x.repeat_interleave(group_size, dim=2).transpose(1, 2) for x in (key_BSKH, value_BSKH))
    scores_BNQS = query_BQNH.transpose(1, 2) * scale @ key.transpose(2, 3)
    if mask is not None:
        scores_BNQS = scores_BNQS + mask
    shown = [
        probabilities(sequence, 0, own)
        for sequence, own in zip(sequences.tolist(), scores_BNQS.softmax(dim=-1), strict=True)
    ]
    return (torch.stack(shown) @ value).transpose(1, 2)
