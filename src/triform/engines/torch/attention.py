"""softmax(scale · QKᵀ + bias)·V over buckets of sequences of equal lengths.

A bucket costs a dozen calls, whatever is in it. Where the rule allows it, sequences of nearly equal lengths are
therefore padded to be equal: in this file alone, and by less than `STEP` rows each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Union

import numpy as np
import torch

from triform.engines.protocol import (
    Bias,
    DistanceBias,
    Integers,
    KeyValues,
    PackedKeyValues,
    PagedKeyValues,
    ProbabilityHook,
    RelativeEmbeddings,
    Spans,
    split_queries,
)
from triform.engines.torch import dropout
from triform.engines.torch.key_value_store import TorchStore
from triform.errors import EngineError
from triform.spec import Bidirectional, Causal, ScoreRule

STEP = 8
"""Two lengths are near each other if no multiple of this lies between them."""

Rows = Union[slice, torch.Tensor]  # noqa: UP007  a type checker that does not see torch takes `|` for a number
"""Some rows of a packed array, a slice where they are neighbours: a view instead of a copy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The steps from QKᵀ to probabilities."""

    rule: ScoreRule
    bias: Bias | None
    dropout: float


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Bucket:
    """Sequences with equally many queries and equally many keys."""

    sequences: Integers
    num_queries: int
    num_keys: int
    rows: Rows
    """Rows of the queries."""
    key_rows: Rows | None
    """Rows of the keys, if these are packed."""
    hidden: torch.Tensor | None = None
    """(B, 1, 1, S) −∞ for padding keys, added to the scores; None without padding."""


@dataclass(frozen=True, eq=False, slots=True)
class Padding:
    """Rows of zeros behind each sequence."""

    spans: Spans
    """Spans of the padded sequences, end to end."""
    rows: Rows
    """The packed rows of the sequences, sequence by sequence."""
    places: torch.Tensor
    """The places of these rows among the padded rows."""

    @classmethod
    def up_to(cls, lengths: Integers, packed: Spans, device: torch.device) -> "Padding":
        """Pad packed sequences to these lengths, (B,)."""
        spans = Spans.of_lengths(lengths)
        rows, places = (
            np.concatenate([np.arange(begin, begin + own) for begin, own in zip(begins, packed.lengths, strict=True)])
            for begins in (packed.begins, spans.begins)
        )
        return cls(spans, _as_slice(rows, device), torch.from_numpy(places).to(device))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        zeros = x.new_zeros(int(self.spans.ends[-1]), *x.shape[1:])
        return zeros.index_copy(0, self.places, x[self.rows])


def attention(
    query_TNH: torch.Tensor,
    queries: Spans,
    keys: KeyValues,
    scores: Scores,
    hook: ProbabilityHook | None,
) -> torch.Tensor:
    """Scaled dot-product attention. Vaswani et al. 2017, section 3.2.1; contract in `Engine.attention`."""
    device, is_inference = query_TNH.device, torch.is_inference_mode_enabled()
    if isinstance(scores.bias, RelativeEmbeddings):
        raise EngineError("The torch engine has no relative embeddings yet. Load the model with engine='reference'.")
    if not len(query_TNH):
        return query_TNH
    if hook is not None:
        return _shown(query_TNH, queries, keys, scores, hook)
    if not isinstance(keys, PackedKeyValues):
        return _by_buckets(query_TNH, keys, *_buckets(queries, keys.table.lengths, None, device), scores)
    if _can_pad(queries, keys.spans, scores):
        paddings = _paddings(queries, keys.spans, device, is_inference)
        if paddings is not None:
            pad_query, pad_key, buckets, order = paddings
            keys = PackedKeyValues(pad_key(keys.key), pad_key(keys.value), pad_key.spans)
            context_TNH = _by_buckets(pad_query(query_TNH), keys, buckets, order, scores)
            return context_TNH.index_select(0, pad_query.places)
    buckets, order = _packed_buckets(queries, keys.spans, device, is_inference)
    return _by_buckets(query_TNH, keys, buckets, order, scores)


def _by_buckets(
    query_TNH: torch.Tensor,
    keys: KeyValues,
    buckets: Sequence[Bucket],
    order: torch.Tensor | None,
    scores: Scores,
) -> torch.Tensor:
    """Compute attention bucket by bucket: (T, N, H)."""
    device = query_TNH.device
    contexts = []
    query_parts = _split_rows(query_TNH, [bucket.rows for bucket in buckets])
    for bucket, query, (key, value) in zip(buckets, query_parts, _keys_of(keys, buckets), strict=True):
        query_BQNH = query.unflatten(0, (-1, bucket.num_queries))
        first_position = bucket.num_keys - bucket.num_queries
        added = _added_scores(scores, bucket.num_queries, bucket.num_keys, first_position, device)
        mask = bucket.hidden if added is None else added
        # On a CPU torch's own kernel has no dropout, and its substitute is slower than the formula written out.
        attend = _written_out if scores.dropout and device.type == "cpu" else _fused
        contexts.append(attend(query_BQNH, key, value, mask, scores).flatten(0, 1))
    context_TNH = contexts[0] if len(contexts) == 1 else torch.cat(contexts)
    return context_TNH if order is None else context_TNH[order]


def _can_pad(queries: Spans, keys: Spans, scores: Scores) -> bool:
    """Check whether padding behind a sequence can be hidden and still see a key."""
    if scores.rule.mask.window is not None or scores.bias is not None:
        return False
    # Under a causal mask the last query has the position of the last key.
    return isinstance(scores.rule.mask, Bidirectional) or bool((queries.lengths == keys.lengths).all())


@lru_cache(maxsize=8)
def _paddings(
    queries: Spans, keys: Spans, device: torch.device, is_inference: bool
) -> tuple[Padding, Padding, list[Bucket], torch.Tensor | None] | None:
    """Pad queries and keys to lengths near each other, and find the buckets that result; None without such lengths.

    Cached for all layers of a pass, as `_packed_buckets`.
    """
    lengths = np.stack([queries.lengths, keys.lengths])
    _, near = np.unique(-(-lengths // STEP), axis=1, return_inverse=True)
    longer = lengths.copy()
    for group in range(near.max() + 1):
        longer[:, near == group] = lengths[:, near == group].max(axis=1, keepdims=True)
    if (longer == lengths).all():
        return None
    pad_query, pad_key = (Padding.up_to(own, spans, device) for own, spans in zip(longer, (queries, keys), strict=True))
    buckets, order = _buckets(pad_query.spans, longer[1], pad_key.spans.begins, device)
    hiding = []
    for bucket in buckets:
        is_real = np.arange(bucket.num_keys) < keys.lengths[bucket.sequences, None]
        hidden = torch.zeros(is_real.shape).masked_fill(torch.from_numpy(~is_real), -torch.inf)[:, None, None]
        hiding.append(replace(bucket, hidden=None if is_real.all() else hidden.to(device)))
    return pad_query, pad_key, hiding, order


@lru_cache(maxsize=8)
def _packed_buckets(
    queries: Spans, keys: Spans, device: torch.device, is_inference: bool
) -> tuple[list[Bucket], torch.Tensor | None]:
    """Find the buckets, once for all layers of a pass. Tensors made for inference cannot serve gradients."""
    return _buckets(queries, keys.lengths, keys.begins, device)


def _buckets(
    queries: Spans, num_keys: Integers, key_begins: Integers | None, device: torch.device
) -> tuple[list[Bucket], torch.Tensor | None]:
    """Find the buckets, and the order in which their rows, end to end, are the packed rows; None if in order."""
    shapes, bucket_of = np.unique(np.stack([queries.lengths, num_keys]), axis=1, return_inverse=True)
    buckets, places = [], []
    for number, (length, num_own_keys) in enumerate(shapes.T.tolist()):
        if not length:
            continue
        sequences = np.flatnonzero(bucket_of == number)
        rows = _rows(queries.begins[sequences], length)
        key_rows = None if key_begins is None else _rows(key_begins[sequences], num_own_keys)
        places.append(rows)
        buckets.append(
            Bucket(
                sequences=sequences,
                num_queries=length,
                num_keys=num_own_keys,
                rows=_as_slice(rows, device),
                key_rows=None if key_rows is None else _as_slice(key_rows, device),
            )
        )
    order = np.argsort(np.concatenate(places))
    is_in_order = bool((order[1:] > order[:-1]).all())
    return buckets, None if is_in_order else torch.from_numpy(order).to(device)


def _rows(begins: Integers, length: int) -> Integers:
    return (begins[:, None] + np.arange(length)).ravel()


def _as_slice(rows: Integers, device: torch.device) -> Rows:
    are_neighbours = bool((np.diff(rows) == 1).all())
    return slice(int(rows[0]), int(rows[-1]) + 1) if are_neighbours else torch.from_numpy(rows).to(device)


def _split_rows(x: torch.Tensor, parts: Sequence[Rows]) -> Sequence[torch.Tensor]:
    """Select rows of x for each bucket. Neighbours that make up all of x are split at once, which joins gradients too.

    The gradient of a slice is as large as x.
    """
    borders = [(part.start, part.stop) for part in parts if isinstance(part, slice)]
    if [0, *(stop for _, stop in borders)] == [*(start for start, _ in borders), len(x)]:
        pieces: Sequence[torch.Tensor] = x.split([stop - start for start, stop in borders])
        return pieces
    return [x[part] for part in parts]


def _keys_of(keys: KeyValues, buckets: Sequence[Bucket]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(B, S, K, H) keys and values of the sequences of each bucket."""
    if isinstance(keys, PackedKeyValues):
        rows = [bucket.key_rows for bucket in buckets if bucket.key_rows is not None]
        for bucket, *both in zip(buckets, _split_rows(keys.key, rows), _split_rows(keys.value, rows), strict=True):
            key, value = (x.unflatten(0, (-1, bucket.num_keys)) for x in both)
            yield key, value
        return
    for bucket in buckets:
        yield _store_of(keys).read(keys.layer, keys.table, bucket.sequences, bucket.num_keys)


def _added_scores(
    scores: Scores, num_queries: int, num_keys: int, first_position: int, device: torch.device
) -> torch.Tensor | None:
    """Compute bias and −∞ for hidden keys, to be added to the scores: (Q, S) or (N, Q, S); None for nothing.

    `first_position` is the first query's position among the keys.
    """
    mask, bias = scores.rule.mask, scores.bias
    # One query at the position of the last key sees all keys.
    hides_later = isinstance(mask, Causal) and num_queries > 1
    if not hides_later and mask.window is None and bias is None:
        return None
    positions = torch.arange(first_position, first_position + num_queries, device=device)
    distance_QS = torch.arange(num_keys, device=device) - positions[:, None]
    hidden = torch.zeros_like(distance_QS, dtype=torch.bool)
    if hides_later:
        hidden |= distance_QS > 0
    if mask.window is not None:
        hidden |= distance_QS.abs() >= mask.window
    if bias is None:
        return torch.zeros(hidden.shape, device=device).masked_fill(hidden, -torch.inf)
    assert isinstance(bias, DistanceBias), "`attention` refuses the others"
    # Keys behind a causal query may lie outside the table; they are hidden anyway.
    columns = (distance_QS + bias.zero).clamp(0, bias.values.shape[1] - 1)
    added: torch.Tensor = bias.values[:, columns]
    return added.masked_fill(hidden, -torch.inf)


def _shown(
    query_TNH: torch.Tensor, queries: Spans, keys: KeyValues, scores: Scores, hook: ProbabilityHook
) -> torch.Tensor:
    """Compute attention sequence by sequence, in runs of queries, and show the probabilities to the hook: (T, N, H)."""
    contexts = []
    lengths = keys.spans.lengths if isinstance(keys, PackedKeyValues) else keys.table.lengths
    for run in split_queries(queries, lengths, scores.rule.mask, query_TNH.shape[1]):
        key_BSKH, value_BSKH = (x[:, : run.num_keys] for x in _keys_of_one(keys, run.sequence, lengths))
        added = _added_scores(scores, run.num_queries, run.num_keys, run.position, query_TNH.device)
        show = partial(hook.apply, run)
        contexts.append(_written_out(query_TNH[None, run.rows], key_BSKH, value_BSKH, added, scores, show)[0])
    return torch.cat(contexts)


def _keys_of_one(keys: KeyValues, sequence: int, lengths: Integers) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the keys and values of a sequence, (1, S, K, H)."""
    if isinstance(keys, PackedKeyValues):
        rows = slice(int(keys.spans.begins[sequence]), int(keys.spans.ends[sequence]))
        return keys.key[None, rows], keys.value[None, rows]
    return _store_of(keys).read(keys.layer, keys.table, np.array([sequence]), int(lengths[sequence]))


def _store_of(keys: PagedKeyValues) -> TorchStore:
    if not isinstance(keys.store, TorchStore):
        raise EngineError("The key/value store belongs to another engine. Make it with this engine's key_value_store.")
    return keys.store


def _fused(
    query_BQNH: torch.Tensor,
    key_BSKH: torch.Tensor,
    value_BSKH: torch.Tensor,
    mask: torch.Tensor | None,
    scores: Scores,
) -> torch.Tensor:
    """Compute attention by the kernel of torch: (B, Q, N, H)."""
    query, key, value = (x.transpose(1, 2) for x in (query_BQNH, key_BSKH, value_BSKH))
    context = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=scores.dropout,
        scale=scores.rule.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return context.transpose(1, 2)


def _written_out(
    query_BQNH: torch.Tensor,
    key_BSKH: torch.Tensor,
    value_BSKH: torch.Tensor,
    mask: torch.Tensor | None,
    scores: Scores,
    show: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Compute attention by the formula: (B, Q, N, H); `show` sees the probabilities (N, Q, S) of a single sequence."""
    if (group_size := query_BQNH.shape[2] // key_BSKH.shape[2]) > 1:
        key_BSKH, value_BSKH = (x.repeat_interleave(group_size, dim=2) for x in (key_BSKH, value_BSKH))
    key, value = (x.transpose(1, 2) for x in (key_BSKH, value_BSKH))
    scores_BNQS = query_BQNH.transpose(1, 2) * scores.rule.scale @ key.transpose(2, 3)
    if mask is not None:
        scores_BNQS = scores_BNQS + mask
    probabilities_BNQS = scores_BNQS.softmax(dim=-1)
    if show is not None:
        # A hook may write into the probabilities, but softmax needs its result for the gradients.
        probabilities_BNQS = show(probabilities_BNQS[0].clone())[None]
    if scores.dropout:
        probabilities_BNQS = dropout.drop(probabilities_BNQS, scores.dropout)
    return (probabilities_BNQS @ value).transpose(1, 2)
