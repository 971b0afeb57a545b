"""Pages of keys and values in the layout of the attention kernel: channels of a key apart, of a value together."""

import math
import mmap
from collections.abc import Callable, Sequence

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
        self._keys = [_Pages((each.num_key_value_heads, each.head_dim, size)) for each in layers]
        self._values = [_Pages((each.num_key_value_heads, size, -(-each.head_dim // size) * size)) for each in layers]
        self.keys = [pages.array for pages in self._keys]
        self.values = [pages.array for pages in self._values]

    @property
    def page_bytes(self) -> int:
        """Bytes of one page in all layers, padding included."""
        return sum(math.prod(array.shape[1:]) * array.itemsize for array in (*self.keys, *self.values))

    def keep_pages(self, pages: Integers) -> None:
        """Copy the pages (P,) to smaller arrays."""
        self._change(lambda own: own.keep(pages))

    def grow(self, num_pages: int) -> None:
        """Make the arrays larger; the present pages stay."""
        self._change(lambda own: own.grow(num_pages))

    def _change(self, change: Callable[["_Pages"], None]) -> None:
        for arrays, owners in ((self.keys, self._keys), (self.values, self._values)):
            arrays.clear()  # memory with a view cannot grow
            try:
                for own in owners:
                    change(own)
            except OSError as error:
                raise MemoryError("The pages of the KV cache cannot grow.") from error
            finally:
                arrays += [own.array for own in owners]

    def copy_pages(self, sources: Integers, targets: Integers) -> None:
        """Copy pages by a kernel, from `sources` (P,) to `targets` (P,)."""
        for array in (*self.keys, *self.values):
            _kernels.copy_pages(array, sources, targets)

    def write(self, layer: int, key_TKH: Floats, value_TKH: Floats, table: PageTable) -> None:
        """Write new rows, (T, K, H) each, to `table.slots` (T,), in the layout of the attention kernel."""
        slots = np.ascontiguousarray(table.slots)
        self._kernels.write_pages(key_TKH, value_TKH, slots, self.keys[layer], self.values[layer])


class _Pages:
    """An array of pages, (pages, …) float32. Growth moves the mapping of the memory (mremap), and no contents."""

    def __init__(self, page_shape: tuple[int, ...]) -> None:
        self._page_shape = page_shape
        self._memory: mmap.mmap | None = None
        self.array: Floats = np.zeros((0, *page_shape), np.float32)

    def keep(self, pages: Integers) -> None:
        """Copy the pages (P,) to a smaller array."""
        self.array, self._memory = self.array[pages], None

    def grow(self, num_pages: int) -> None:
        """Make the array larger, for `num_pages` pages in all."""
        num_before = len(self.array)
        if num_pages <= num_before:
            return
        if not num_before:
            self.array = _kernels.empty((num_pages, *self._page_shape))
        elif self._memory is None or not self._remap(self._memory, num_pages):
            memory = mmap.mmap(-1, self._num_bytes(num_pages), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            array = self._view(memory)
            array[:num_before] = self.array
            self.array, self._memory = array, memory

    def _remap(self, memory: mmap.mmap, num_pages: int) -> bool:
        """Resize the mapping; False where a view of the memory is in use or the system has no mremap."""
        self.array = np.zeros((0, *self._page_shape), np.float32)
        try:
            memory.resize(self._num_bytes(num_pages))
        except (BufferError, SystemError):
            return False
        finally:
            self.array = self._view(memory)
        return True

    def _num_bytes(self, num_pages: int) -> int:
        return num_pages * math.prod(self._page_shape) * np.dtype(np.float32).itemsize

    def _view(self, memory: mmap.mmap) -> Floats:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(memory, np.float32).reshape(-1, *self._page_shape)


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
