"""Pages of keys and values in the layout of the attention kernel: channels of a key apart, of a value together."""

import math
from collections.abc import Sequence

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.formats import Floats
from triform.engines.protocol import (
    Integers,
    KeysAndValues,
    KeyValueStore,
    LayerCache,
    PagedKeyValues,
    PageTable,
    Spans,
)


class NativeStore(KeyValueStore):
    """Keys (pages, K, H, BLOCK) and values (pages, K, BLOCK, H rounded up to whole blocks) of each layer."""

    def __init__(self, layers: Sequence[LayerCache], kernels: _kernels.Kernels) -> None:
        self._kernels = kernels
        size = _kernels.BLOCK
        self.keys, self.values = [], []
        for layer in layers:
            groups, head_dim = layer.num_key_value_heads, layer.head_dim
            self.keys.append(np.zeros((0, groups, head_dim, size), np.float32))
            self.values.append(np.zeros((0, groups, size, -(-head_dim // size) * size), np.float32))

    @property
    def page_bytes(self) -> int:
        """Bytes of one page in all layers, padding included."""
        return sum(math.prod(array.shape[1:]) * array.itemsize for array in (*self.keys, *self.values))

    def keep_pages(self, pages: Integers) -> None:
        """Copy the pages (P,) to smaller arrays."""
        self.keys = [array[pages] for array in self.keys]
        self.values = [array[pages] for array in self.values]

    def grow(self, num_pages: int) -> None:
        """Allocate larger arrays, and copy the present pages to them."""
        for arrays in (self.keys, self.values):
            for layer, old in enumerate(arrays):
                if num_pages > len(old):
                    new = _kernels.empty((num_pages, *old.shape[1:]))
                    new[: len(old)] = old
                    arrays[layer] = new

    def copy_pages(self, sources: Integers, targets: Integers) -> None:
        """Copy pages by a kernel, from `sources` (P,) to `targets` (P,)."""
        for array in (*self.keys, *self.values):
            _kernels.copy_pages(array, sources, targets)

    def write(self, layer: int, key_TKH: Floats, value_TKH: Floats, table: PageTable) -> None:
        """Write new rows, (T, K, H) each, to `table.slots` (T,), in the layout of the attention kernel."""
        slots = np.ascontiguousarray(table.slots)
        self._kernels.write_pages(key_TKH, value_TKH, slots, self.keys[layer], self.values[layer])


def in_pages(kernels: _kernels.Kernels, key_SKH: Floats, value_SKH: Floats, spans: Spans) -> PagedKeyValues:
    """Copy the keys and values of sequences, (S, K, H) each, to a new store, for later passes to read.

    The spans may skip rows, and may name rows in any order.
    """
    _, groups, head_dim = key_SKH.shape
    size = _kernels.BLOCK
    counts = -(-spans.lengths // size)
    page_spans = Spans.of_lengths(counts)
    places = np.arange(spans.lengths.sum()) - np.repeat(np.cumsum(spans.lengths) - spans.lengths, spans.lengths)
    slots = np.repeat(page_spans.begins, spans.lengths) * size + places
    table = PageTable(np.arange(counts.sum()), page_spans, spans.lengths, slots)
    store = NativeStore([KeysAndValues(groups, head_dim)], kernels)
    store.grow(int(counts.sum()))
    rows = np.repeat(spans.begins, spans.lengths) + places
    is_all = len(rows) == len(key_SKH) and bool((np.diff(rows) == 1).all())
    key, value = (x if is_all else x[rows] for x in (key_SKH, value_SKH))
    store.write(0, np.ascontiguousarray(key), np.ascontiguousarray(value), table)
    return PagedKeyValues(store, 0, table)
