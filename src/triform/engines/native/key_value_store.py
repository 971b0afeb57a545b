"""Keys and values in pages as attention reads them: keys with their channels apart, values with them together."""

from collections.abc import Sequence

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.protocol import Integers, KeyValueStore, PagedKeyValues, PageTable, Spans
from triform.engines.reference.floats import Floats


class NativeStore(KeyValueStore):
    """For each layer keys (pages, K, H, BLOCK) and values (pages, K, BLOCK, H rounded up to whole blocks)."""

    def __init__(self, layers: Sequence[tuple[int, int]], kernels: _kernels.Kernels) -> None:
        self._kernels = kernels
        size = _kernels.BLOCK
        self.keys = [np.zeros((0, groups, head_dim, size), np.float32) for groups, head_dim in layers]
        self.values = [np.zeros((0, groups, size, -(-dim // size) * size), np.float32) for groups, dim in layers]

    def grow(self, num_pages: int) -> None:
        for arrays in (self.keys, self.values):
            for layer, old in enumerate(arrays):
                if num_pages > len(old):
                    new = _kernels.empty((num_pages, *old.shape[1:]))
                    new[: len(old)] = old
                    arrays[layer] = new

    def copy_pages(self, sources: Integers, targets: Integers) -> None:
        for array in (*self.keys, *self.values):
            _kernels.copy_pages(array, sources, targets)

    def write(self, layer: int, key_TKH: Floats, value_TKH: Floats, table: PageTable) -> None:
        slots = np.ascontiguousarray(table.slots)
        self._kernels.write_pages(key_TKH, value_TKH, slots, self.keys[layer], self.values[layer])


def in_pages(kernels: _kernels.Kernels, key_SKH: Floats, value_SKH: Floats, spans: Spans) -> PagedKeyValues:
    """Keys and values in pages of their own."""
    _, groups, head_dim = key_SKH.shape
    size = _kernels.BLOCK
    counts = -(-spans.lengths // size)
    page_spans = Spans.of_lengths(counts)
    places = np.arange(spans.lengths.sum()) - np.repeat(np.cumsum(spans.lengths) - spans.lengths, spans.lengths)
    slots = np.repeat(page_spans.begins, spans.lengths) * size + places
    table = PageTable(np.arange(counts.sum()), page_spans, spans.lengths, slots)
    store = NativeStore([(groups, head_dim)], kernels)
    store.grow(int(counts.sum()))
    rows = np.repeat(spans.begins, spans.lengths) + places
    is_all = len(rows) == len(key_SKH) and bool((np.diff(rows) == 1).all())
    key, value = (x if is_all else x[rows] for x in (key_SKH, value_SKH))
    store.write(0, np.ascontiguousarray(key), np.ascontiguousarray(value), table)
    return PagedKeyValues(store, 0, table)
