"""What the layers of one forward pass share."""

from collections.abc import Callable, Hashable
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
    Spans,
)

T = TypeVar("T")


class Cache(Protocol):
    """The keys and values of sequences that are still growing, as `generation/` keeps them."""

    @property
    def store(self) -> KeyValueStore:
        """Where they are."""

    @property
    def lengths(self) -> Integers:
        """(B,) tokens that each sequence holds."""

    def reserve(self, counts: Integers) -> PageTable:
        """Find pages for so many new tokens of each sequence."""

    def commit(self, counts: Integers) -> None:
        """The tokens reserved are written: count them."""


class Memory:
    """An encoder's last hidden states, and the cross keys and values that decoder layers have made of them."""

    def __init__(self, states_SD: Array, spans: Spans) -> None:
        self.states_SD = states_SD
        self.spans = self._all_spans = spans
        self._chosen: Integers | None = None
        self._key_values: dict[int, KeyValues] = {}  # of all sequences, by layer; shared with those selected

    def key_values(self, layer: int, make: Callable[[Array, Spans], KeyValues]) -> KeyValues:
        """Those of a layer, made once of the states of all sequences, for those selected."""
        if layer not in self._key_values:
            self._key_values[layer] = make(self.states_SD, self._all_spans)
        made = self._key_values[layer]
        return made if self._chosen is None else made.select(self._chosen)

    def select(self, sequences: Integers) -> "Memory":
        """The memory of some sequences, in the order given; one may be named twice. Nothing is copied."""
        selected = Memory(self.states_SD, self.spans.select(sequences))
        selected._all_spans, selected._key_values = self._all_spans, self._key_values
        selected._chosen = sequences if self._chosen is None else self._chosen[sequences]
        return selected


class ForwardContext:
    """One forward pass of one stack: where its tokens stand, whom they may see, and who looks on."""

    def __init__(
        self,
        spans: Spans,
        *,
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

    @property
    def key_lengths(self) -> Integers:
        """(B,) keys of each sequence, cached and new."""
        return self._starts + self.spans.lengths

    def positions(self) -> Integers:
        """Positions of the rows, (T,): the batch's own, or else counted from 0 in each sequence."""
        if self._positions is not None and len(self._positions):
            return self._positions
        first_rows = np.repeat(self.spans.begins - self._starts, self.spans.lengths)
        return np.arange(len(first_rows)) - first_rows

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What several layers need alike, computed by the first that asks."""
        if key not in self._shared:
            self._shared[key] = compute()
        shared: T = self._shared[key]
        return shared

    def keys_and_values(self, layer: int, key_TKH: Array, value_TKH: Array) -> KeyValues:
        """All keys and values that the new tokens may see: the new ones behind those of the cache, if there is one."""
        if self._cache is None or self._table is None:
            return PackedKeyValues(key_TKH, value_TKH, self.spans)
        self._cache.store.write(layer, key_TKH, value_TKH, self._table)
        return PagedKeyValues(self._cache.store, layer, self._table)

    def finish(self) -> None:
        """All layers are through: the cache may count the new tokens."""
        if self._cache is not None:
            self._cache.commit(self.spans.lengths)

    def wants(self, name: str) -> bool:
        """Whether somebody looks at this trace point."""
        return self._hook is not None and self._hook.wants(name)

    def apply_hook(self, name: str, value: Array) -> Array:
        """Show a tensor to whoever looks, and take what they give back."""
        if self._hook is not None and self._hook.wants(name):
            return self._hook.tensor(name, value)
        return value

    def probabilities(self, name: str) -> ProbabilityHook | None:
        """A tap for the attention probabilities of this trace point, if somebody looks."""
        hook = self._hook
        if hook is None or not hook.wants(name):
            return None
        return lambda sequence, first_query, value: hook.probabilities(name, sequence, first_query, value)
