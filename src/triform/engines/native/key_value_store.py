"""Keys and values in pages as attention reads them: keys with their channels apart, values with them together."""

import math
from collections.abc import Sequence

import numpy as np

import triform.engines.native._kernels as _kernels
from triform.engines.formats import Integers
from triform.engines.key_values import KeyValueStore, PageTable
from triform.engines.reference.floats import Floats


class NativeStore(KeyValueStore):
    """For each layer keys (pages, K, H, BLOCK) and values (pages, K, BLOCK, H rounded up to whole blocks)."""

    def __init__(self, layers: Sequence[tuple[int, int]], kernels: _kernels.Kernels) -> None:
        self._kernels = kernels
        size = _kernels.BLOCK
        self.keys = [np.zeros((0, groups, head_dim, size), np.float32) for groups, head_dim in layers]
        self.values = [np.zeros((0, groups, size, -(-dim // size) * size), np.float32) for groups, dim in layers]

    @property
    def page_bytes(self) -> int:
        return sum(math.prod(array.shape[1:]) * array.itemsize for array in (*self.keys, *self.values))

    def keep_pages(self, pages: Integers) -> None:
        self.keys = [array[pages] for array in self.keys]
        self.values = [array[pages] for array in self.values]

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
