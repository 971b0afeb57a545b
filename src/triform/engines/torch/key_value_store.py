"""Pages of keys and values: two tensors for each layer."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from triform.engines.protocol import Integers, KeyValueStore, LayerCache, PageTable
from triform.errors import EngineError


class TorchStore(KeyValueStore):
    """Keys and values of each layer, (pages, page_size, K, H)."""

    def __init__(self, layers: Sequence[LayerCache], page_size: int, device: torch.device) -> None:
        self._device = device
        shapes = [(0, page_size, layer.num_key_value_heads, layer.head_dim) for layer in layers]
        self._keys = [torch.empty(shape, device=device) for shape in shapes]
        self._values = [torch.empty(shape, device=device) for shape in shapes]

    @property
    def page_bytes(self) -> int:
        """Bytes of one page in all layers."""
        return sum(math.prod(tensor.shape[1:]) * tensor.element_size() for tensor in (*self._keys, *self._values))

    def keep_pages(self, pages: Integers) -> None:
        """Copy the pages (P,) to smaller tensors."""
        kept = torch.from_numpy(pages).to(self._device)
        self._keys = [tensor[kept] for tensor in self._keys]
        self._values = [tensor[kept] for tensor in self._values]

    def grow(self, num_pages: int) -> None:
        """Allocate larger tensors on the device, and copy the present pages to them."""
        for tensors in (self._keys, self._values):
            for layer, old in enumerate(tensors):
                if num_pages > len(old):
                    new = torch.empty((num_pages, *old.shape[1:]), device=self._device)
                    new[: len(old)] = old
                    tensors[layer] = new

    def copy_pages(self, sources: Integers, targets: Integers) -> None:
        """Copy pages on the device, from `sources` (P,) to `targets` (P,)."""
        from_, to = (torch.from_numpy(pages).to(self._device) for pages in (sources, targets))
        for tensor in (*self._keys, *self._values):
            tensor[to] = tensor[from_]

    def write(self, layer: int, key_TKH: torch.Tensor, value_TKH: torch.Tensor, table: PageTable) -> None:
        if key_TKH.requires_grad or value_TKH.requires_grad:
            raise EngineError(
                "A KV cache would lose the gradients of its keys and values. Call the model without a cache to train "
                "it, or inside engine.inference() to generate."
            )
        slots = torch.from_numpy(table.slots).to(self._device)
        for tensor, rows in ((self._keys[layer], key_TKH), (self._values[layer], value_TKH)):
            tensor.view(-1, *tensor.shape[2:])[slots] = rows

    def read(
        self, layer: int, table: PageTable, sequences: Integers, num_keys: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the keys and values of sequences with `num_keys` keys each: (B, S, K, H) each."""
        pages = torch.from_numpy(
            table.pages[table.spans.begins[sequences][:, None] + np.arange(-(-num_keys // self._keys[layer].shape[1]))]
        ).to(self._device)
        key, value = (tensors[layer][pages].flatten(1, 2)[:, :num_keys] for tensors in (self._keys, self._values))
        return key, value
