"""Attention by the kernels: in a single pass, or in two with the probabilities shown between."""

from typing import Any

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.formats import Floats
from triform.engines.native.key_value_store import NativeStore
from triform.engines.native.memory import empty
from triform.engines.protocol import (
    Bias,
    Integers,
    KeyValues,
    PackedKeyValues,
    ProbabilityHook,
    QueryRun,
    RelativeEmbeddings,
    Spans,
    split_queries,
)
from triform.errors import EngineError
from triform.spec import Causal, ScoreRule


def attention(
    kernels: _kernels.Kernels,
    query_TNH: Floats,
    queries: Spans,
    keys: KeyValues,
    rule: ScoreRule,
    bias: Bias | None,
    hook: ProbabilityHook | None,
) -> Floats:
    """Scaled dot-product attention. Vaswani et al. 2017, section 3.2.1; contract in `Engine.attention`."""
    if isinstance(bias, RelativeEmbeddings):
        raise EngineError("The native engine has no relative embeddings yet. Load the model with engine='reference'.")
    output_TNH = empty(*query_TNH.shape)
    key, value, pages, spans, lengths = _locate_keys(keys)
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
        scale=rule.scale,
        causal=isinstance(rule.mask, Causal),
        window=rule.mask.window,
        bias=None if bias is None else bias.values,
        bias_zero=0 if bias is None else bias.zero,
    )
    if hook is None or hook.selection.rows is not None:
        kernels.attention(arguments)
    if hook is not None:
        # Queries are independent: two passes over the selected queries give the bits of the single pass.
        heads, groups = query_TNH.shape[1], key.shape[1]
        for run in split_queries(queries, lengths, rule.mask, heads, selection=hook.selection):
            _show_run(kernels, arguments, run, heads, groups, int(lengths[run.sequence]), hook)
    return output_TNH


def _show_run(
    kernels: _kernels.Kernels,
    arguments: _kernels.AttentionArguments,
    run: QueryRun,
    num_heads: int,
    num_groups: int,
    num_keys: int,
    hook: ProbabilityHook,
) -> None:
    """Compute some queries in two passes of the kernel, and show the probabilities between them."""
    # Rows of a group are its heads for the first query, then for the next; keys come in whole tiles.
    shape = num_groups, run.num_queries, num_heads // num_groups, -(-num_keys // _kernels.BLOCK) * _kernels.BLOCK
    p_KQGS = np.empty(shape, np.float32)
    both_passes: Any = {
        "sequence": run.sequence,
        "query_begin": run.first_query,
        "query_end": run.first_query + run.num_queries,
        "probabilities": p_KQGS.reshape(num_groups, -1, shape[3]),
    }
    kernels.attention_probabilities(arguments, **both_passes)
    seen_KGQS = p_KQGS[..., : run.num_keys].transpose(0, 2, 1, 3)
    seen_KGQS[...] = hook.apply(run, seen_KGQS.copy().reshape(num_heads, run.num_queries, -1)).reshape(seen_KGQS.shape)
    kernels.attention_values(arguments, **both_passes)


def _locate_keys(keys: KeyValues) -> tuple[Floats, Floats, Integers | None, Spans, Integers]:
    """Find keys, values and the pages of a store; the rows or pages of each sequence, and its number of keys."""
    if isinstance(keys, PackedKeyValues):
        return keys.key, keys.value, None, keys.spans, keys.spans.lengths
    if not isinstance(keys.store, NativeStore):
        raise EngineError("The key/value store belongs to another engine. Make it with this engine's key_value_store.")
    key, value = keys.store.keys[keys.layer], keys.store.values[keys.layer]
    return key, value, keys.table.pages, keys.table.spans, keys.table.lengths
