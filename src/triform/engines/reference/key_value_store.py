"""Keys and values in pages: one array of pages for each layer."""

from collections.abc import Sequence

import numpy as np

from triform.engines.protocol import Integers, KeyValueStore, PageTable
from triform.engines.reference.floats import Floats


class ReferenceStore(KeyValueStore):
    """Pages as the first axis of two arrays for each layer, (pages, page_size, K, H)."""

    def __init__(self, layers: Sequence[tuple[int, int]], page_size: int) -> None:
        self._keys = [np.empty((0, page_size, *layer), np.float32) for layer in layers]
        self._values = [np.empty((0, page_size, *layer), np.float32) for layer in layers]

    def grow(self, num_pages: int) -> None:
        for arrays in (self._keys, self._values):
            for layer, old in enumerate(arrays):
                if num_pages > len(old):
                    new = np.empty((num_pages, *old.shape[1:]), np.float32)
                    new[: len(old)] = old
                    arrays[layer] = new

    def copy_pages(self, sources: Integers, targets: Integers) -> None:
        for array in (*self._keys, *self._values):
            array[targets] = array[sources]

    def write(self, layer: int, key_TKH: Floats, value_TKH: Floats, table: PageTable) -> None:
        for array, rows in ((self._keys[layer], key_TKH), (self._values[layer], value_TKH)):
            array.reshape(-1, *array.shape[2:])[table.slots] = rows

    def read(self, layer: int, table: PageTable, sequence: int) -> tuple[Floats, Floats]:
        """The keys and values of one sequence, (S, K, H) each."""
        pages = table.pages[table.spans.begins[sequence] : table.spans.ends[sequence]]
        length = int(table.lengths[sequence])
        return _gather(self._keys[layer], pages, length), _gather(self._values[layer], pages, length)


def _gather(array: Floats, pages: Integers, length: int) -> Floats:
    # Pages in a row are a view: a lone sequence is read without a copy.
    first = int(pages[0])
    in_a_row = int(pages[-1]) - first == len(pages) - 1 and bool((np.diff(pages) == 1).all())
    chosen = array[first : first + len(pages)] if in_a_row else array[pages]
    return chosen.reshape(-1, *array.shape[2:])[:length]
