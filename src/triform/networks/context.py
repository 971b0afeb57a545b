"""The forward context: what the layers of one pass share."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from triform.engines import (
    Array,
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
    """The KV cache of sequences that are still growing, as `generation/` keeps it."""

    @property
    def store(self) -> KeyValueStore:
        """The pages of keys and values."""

    @property
    def lengths(self) -> Integers:
        """(B,) tokens that each sequence holds."""

    def reserve(self, counts: Integers) -> PageTable:
        """Find pages for so many new tokens of each sequence."""

    def commit(self, counts: Integers) -> None:
        """Count the reserved tokens, whose keys and values are written."""


class Memory:
    """An encoder's last hidden states, and the cross keys and values that decoder layers compute from them."""

    def __init__(self, states_SD: Array, spans: Spans) -> None:
        self.states_SD = states_SD
        self.spans = self._all_spans = spans
        self._chosen: Integers | None = None
        self._key_values: dict[int, KeyValues] = {}  # by layer, for all sequences; shared with every selection

    def compute_key_values(self, layer: int, compute: Callable[[Array, Spans], KeyValues]) -> KeyValues:
        """Compute a layer's keys and values for all sequences the first time; return those of the selection."""
        if layer not in self._key_values:
            self._key_values[layer] = compute(self.states_SD, self._all_spans)
        key_values = self._key_values[layer]
        return key_values if self._chosen is None else key_values.select(self._chosen)

    def select(self, sequences: Integers) -> "Memory":
        """Select the memory of some sequences, in the order given; one may be named twice. Nothing is copied."""
        selected = Memory(self.states_SD, self.spans.select(sequences))
        selected._all_spans, selected._key_values = self._all_spans, self._key_values
        selected._chosen = sequences if self._chosen is None else self._chosen[sequences]
        return selected


class ForwardContext:
    """One forward pass of one stack: its rows and positions, cache, encoder memory and hook.

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
        self._shared: dict[Hashable, Any] = {}
        if hook is not None:
            hook.enter(stack, spans, self._starts)

    @property
    def key_lengths(self) -> Integers:
        """(B,) keys of each sequence, cached and new."""
        return self._starts + self.spans.lengths

    def positions(self) -> Integers:
        """Compute the position of each token in its sequence, from 0: (T,)."""
        first_rows = np.repeat(self.spans.begins - self._starts, self.spans.lengths)
        return np.arange(len(first_rows)) - first_rows

    def compute_once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute a value that several layers need, the first time that one asks for it."""
        if key not in self._shared:
            self._shared[key] = compute()
        shared: T = self._shared[key]
        return shared

    def append_key_values(self, layer: int, key_TKH: Array, value_TKH: Array) -> KeyValues:
        """Append new keys and values to those in the cache, if there is one, and return all of them."""
        if self._cache is None or self._table is None:
            return PackedKeyValues(key_TKH, value_TKH, self.spans)
        self._cache.store.write(layer, key_TKH, value_TKH, self._table)
        return PagedKeyValues(self._cache.store, layer, self._table)

    def commit_cache(self) -> None:
        """Count the new tokens in the cache, once all layers have written theirs."""
        if self._cache is not None:
            self._cache.commit(self.spans.lengths)

    def wants_hook(self, name: str) -> bool:
        """Check whether the hook wants this trace point."""
        return self._hook is not None and bool(self._hook.wants(name))

    def apply_hook(self, name: str, value: Array) -> Array:
        """Show a tensor to the hook if it wants this trace point, and return the tensor to go on with."""
        if self._hook is not None and self._hook.wants(name):
            return self._hook.tensor(name, value)
        return value

    def probability_hook(self, name: str) -> ProbabilityHook | None:
        """Prepare the hook for the attention probabilities of this trace point; None if it does not want them."""
        wanted = self._hook is not None and self._hook.wants(name)
        if self._hook is None or not wanted:
            return None
        show = partial(self._hook.probabilities, name)
        return ProbabilityHook(show, wanted) if isinstance(wanted, Selection) else ProbabilityHook(show)
