"""The forward context: state shared by the layers of a forward pass."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from triform.engines import (
    Array,
    Engine,
    Hook,
    Integers,
    KeyValues,
    KeyValueStore,
    PackedKeyValues,
    PagedKeyValues,
    PageTable,
    ProbabilityHook,
    Selection,
    Spans,
)

T = TypeVar("T")


class Cache(Protocol):
    """The KV cache of growing sequences, kept by `generation/`."""

    @property
    def store(self) -> KeyValueStore:
        """The pages of keys and values."""

    @property
    def lengths(self) -> Integers:
        """(B,) tokens of each sequence in the cache."""

    def reserve(self, counts: Integers) -> PageTable:
        """Find pages for the new tokens of each sequence, (B,) counts."""

    def commit(self, counts: Integers) -> None:
        """Count the reserved tokens, (B,), once all layers have written their keys and values."""


ProjectKeyValues = Callable[[Array], tuple[Array, Array]]
"""Encoder states (S, D) → keys and values of one layer, (S, K, H) each."""


class Memory(Protocol):
    """The cross-attention's keys and values of the sequences of a pass."""

    def compute_key_values(self, layer: int, project: ProjectKeyValues, *, is_hooked: bool) -> KeyValues:
        """Return the keys and values of a layer; encoder states without a projection are projected first.

        `is_hooked` tells that a hook may change what `project` returns.
        """


class EncoderMemory:
    """An encoder's last hidden states, and the cross keys and values that decoder layers make from the states."""

    def __init__(self, engine: Engine, states_SD: Array, spans: Spans) -> None:
        self._engine = engine
        self._states_SD = states_SD
        self._spans = self._all_spans = spans
        self._chosen: Integers | None = None
        self._key_values: dict[int, KeyValues] = {}  # of all sequences, by layer; shared with selections

    def compute_key_values(self, layer: int, project: ProjectKeyValues, *, is_hooked: bool) -> KeyValues:
        """Return the keys and values of a layer, and keep them for later passes unless a hook sees them."""
        if is_hooked:
            # A hook may change keys and values, so these are for this pass only.
            key, value = project(self._states_SD)
            return PackedKeyValues(key, value, self._spans)
        if layer not in self._key_values:
            key, value = project(self._states_SD)
            self._key_values[layer] = self._engine.key_values(key, value, self._all_spans)
        made = self._key_values[layer]
        return made if self._chosen is None else made.select(self._chosen)

    def select(self, sequences: Integers) -> "EncoderMemory":
        """Select the memory of sequences, (B,) numbers in the order given with repeats allowed, without a copy."""
        selected = EncoderMemory(self._engine, self._states_SD, self._spans.select(sequences))
        selected._all_spans, selected._key_values = self._all_spans, self._key_values
        selected._chosen = sequences if self._chosen is None else self._chosen[sequences]
        return selected


class ForwardContext:
    """The forward pass of a stack: rows and positions, KV cache, encoder memory and hook.

    Arguments:
        spans: the rows of the packed batch that belong to each sequence.
        stack: the prefix of the stack's names: "", "encoder." or "decoder.".
        cache: the KV cache that the sequences continue.
        memory: what cross-attention reads.
        hook: sees the trace points of the pass.
    """

    def __init__(
        self,
        spans: Spans,
        *,
        stack: str = "",
        positions: Integers | None = None,
        cache: Cache | None = None,
        memory: Memory | None = None,
        hook: Hook | None = None,
    ) -> None:
        self.spans = spans
        self.memory = memory
        self._cache = cache
        self._hook = hook
        self._table = None if cache is None else cache.reserve(spans.lengths)
        self._starts = np.zeros(len(spans), np.int64) if cache is None else cache.lengths.copy()
        self._positions = positions
        self._shared: dict[Hashable, Any] = {}
        if hook is not None:
            hook.enter(stack, spans, self._starts)

    @property
    def key_lengths(self) -> Integers:
        """(B,) keys of each sequence, cached and new."""
        return self._starts + self.spans.lengths

    def positions(self, is_padding: NDArray[np.bool_] | None = None) -> Integers:
        """Positions of the rows, (T,): from the batch if given, or else counted from 0 in each sequence.

        The rows of `is_padding`, (T,), have position -1 and are not counted.
        """
        if self._positions is not None and len(self._positions):
            return self._positions
        first_rows = np.repeat(self.spans.begins - self._starts, self.spans.lengths)
        positions: Integers = np.arange(len(first_rows)) - first_rows
        if is_padding is None or not is_padding.any():
            return positions
        before: Integers = np.cumsum(is_padding) - is_padding
        skipped: Integers = before - np.repeat(before[self.spans.begins], self.spans.lengths)
        return np.where(is_padding, -1, positions - skipped)

    def compute_once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute a value at the first call with this key, and return the same value to later layers."""
        if key not in self._shared:
            self._shared[key] = compute()
        shared: T = self._shared[key]
        return shared

    def append_key_values(self, layer: int, key_TKH: Array, value_TKH: Array) -> KeyValues:
        """Append new keys and values, (T, K, H), to the cache if there is a cache; return old and new."""
        if self._cache is None or self._table is None:
            return PackedKeyValues(key_TKH, value_TKH, self.spans)
        self._cache.store.write(layer, key_TKH, value_TKH, self._table)
        return PagedKeyValues(self._cache.store, layer, self._table)

    def commit_cache(self) -> None:
        """Count the new tokens in the cache, after the last layer has written keys and values."""
        if self._cache is not None:
            self._cache.commit(self.spans.lengths)

    def wants_hook(self, name: str) -> bool:
        """Check whether the hook wants this trace point."""
        return self._hook is not None and bool(self._hook.wants(name))

    def apply_hook(self, name: str, value: Array) -> Array:
        """Show a tensor of any shape to the hook if wanted; return the tensor, perhaps changed."""
        if self._hook is not None and self._hook.wants(name):
            return self._hook.tensor(name, value)
        return value

    def probability_hook(self, name: str) -> ProbabilityHook | None:
        """Prepare the hook for the attention probabilities of this trace point; None if not wanted."""
        wanted = self._hook is not None and self._hook.wants(name)
        if self._hook is None or not wanted:
            return None
        show = partial(self._hook.probabilities, name)
        return ProbabilityHook(show, wanted) if isinstance(wanted, Selection) else ProbabilityHook(show)
