"""Pages of keys and values: two arrays for each layer."""

import math
from collections.abc import Sequence

import numpy as np

from triform.engines.formats import Floats
from triform.engines.protocol import Integers, KeyValueStore, LayerCache, PageTable


class ReferenceStore(KeyValueStore):
    """Keys and values of each layer, (pages, page_size, K, H)."""

    def __init__(self, layers: Sequence[LayerCache], page_size: int) -> None:
        shapes = [(0, page_size, layer.num_key_value_heads, layer.head_dim) for layer in layers]
        self._keys = [np.empty(shape, np.float32) for shape in shapes]
        self._values = [np.empty(shape, np.float32) for shape in shapes]

    @property
    def page_bytes(self) -> int:
        """Bytes of one page in all layers."""
        return sum(math.prod(array.shape[1:]) * array.itemsize for array in (*self._keys, *self._values))

    def keep_pages(self, pages: Integers) -> None:
        """Copy the pages (P,) to smaller arrays."""
        self._keys = [array[pages] for array in self._keys]
        self._values = [array[pages] for array in self._values]

    def grow(self, num_pages: int) -> None:
        """Allocate larger arrays, and copy the present pages to them."""
        for arrays in (self._keys, self._values):
            for layer, old in enumerate(arrays):
                if num_pages > len(old):
                    new = np.empty((num_pages, *old.shape[1:]), np.float32)
                    new[: len(old)] = old
                    arrays[layer] = new

    def copy_pages(self, sources: Integers, targets: Integers) -> None:
        """Copy pages by index, from `sources` (P,) to `targets` (P,)."""
        for array in (*self._keys, *self._values):
            array[targets] = array[sources]

    def write(self, layer: int, key_TKH: Floats, value_TKH: Floats, table: PageTable) -> None:
        """Scatter new rows, (T, K, H) each, to `table.slots` (T,)."""
        for array, rows in ((self._keys[layer], key_TKH), (self._values[layer], value_TKH)):
            array.reshape(-1, *array.shape[2:])[table.slots] = rows

    def read(self, layer: int, table: PageTable, sequence: int) -> tuple[Floats, Floats]:
        """Read the keys and values of a sequence, (S, K, H) each."""
        pages = table.pages[table.spans.begins[sequence] : table.spans.ends[sequence]]
        length = int(table.lengths[sequence])
        return _gather(self._keys[layer], pages, length), _gather(self._values[layer], pages, length)


def _gather(array: Floats, pages: Integers, length: int) -> Floats:
    # Consecutive pages are a view: a lone sequence is read without a copy.
    first = int(pages[0])
    in_a_row = int(pages[-1]) - first == len(pages) - 1 and bool((np.diff(pages) == 1).all())
    chosen = array[first : first + len(pages)] if in_a_row else array[pages]
    return chosen.reshape(-1, *array.shape[2:])[:length]
