"""What the layers of one forward pass share."""

from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import numpy as np

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


ProjectKeyValues = Callable[[Array], tuple[Array, Array]]
"""Encoder states (S, D) → keys and values of one layer, (S, K, H) each."""


class Memory(Protocol):
    """The cross-attention's keys and values of the sequences of a pass."""

    def key_values(self, layer: int, project: ProjectKeyValues, *, is_hooked: bool) -> KeyValues:
        """Return the keys and values of a layer, projecting encoder states that have not been projected yet.

        `is_hooked` tells that a hook may change what `project` returns.
        """


class EncoderMemory:
    """An encoder's last hidden states, and the cross keys and values that decoder layers have made of them."""

    def __init__(self, engine: Engine, states_SD: Array, spans: Spans) -> None:
        self._engine = engine
        self._states_SD = states_SD
        self._spans = self._all_spans = spans
        self._chosen: Integers | None = None
        self._key_values: dict[int, KeyValues] = {}  # of all sequences, by layer; shared with selections

    def key_values(self, layer: int, project: ProjectKeyValues, *, is_hooked: bool) -> KeyValues:
        if is_hooked:
            # A hook may change them in this pass alone: they are not kept for the next.
            key, value = project(self._states_SD)
            return PackedKeyValues(key, value, self._spans)
        if layer not in self._key_values:
            key, value = project(self._states_SD)
            self._key_values[layer] = self._engine.key_values(key, value, self._all_spans)
        made = self._key_values[layer]
        return made if self._chosen is None else made.select(self._chosen)

    def select(self, sequences: Integers) -> "EncoderMemory":
        """Return the memory of some sequences, in the order given; one may be named twice. Nothing is copied."""
        selected = EncoderMemory(self._engine, self._states_SD, self._spans.select(sequences))
        selected._all_spans, selected._key_values = self._all_spans, self._key_values
        selected._chosen = sequences if self._chosen is None else self._chosen[sequences]
        return selected


class ForwardContext:
    """One forward pass of one stack: where its tokens stand, whom they may see, and who looks on."""

    def __init__(
        self,
        spans: Spans,
        *,
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

    @property
    def key_lengths(self) -> Integers:
        """(B,) keys of each sequence, cached and new."""
        return self._starts + self.spans.lengths

    def positions(self) -> Integers:
        """(T,) each token's place in its sequence, from 0."""
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
