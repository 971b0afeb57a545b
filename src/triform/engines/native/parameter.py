"""Parameters as the kernels read them: linears in blocks of output channels, all else as stored."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import triform.engines.native._kernels as _kernels
from triform.engines.formats import GROUP, Format, Integers, StoredTensor
from triform.engines.reference.floats import Floats
from triform.engines.reference.parameter import float32


@dataclass(frozen=True, eq=False, slots=True)
class NativeParameter:
    """A tensor, packed where a linear reads it. A table that is also a linear is there once."""

    array: NDArray[Any]
    """As stored, or packed as `kernels/layout/weights.h` draws it: (blocks, in, BLOCK) floats, or the bytes of integers
    and their scales."""
    format: Format
    shape: tuple[int, ...]
    weight: _kernels.Weight | None = None
    """As the kernels of linears take it; there where it is packed."""
    vector: Floats | None = None
    """As all other kernels take it; there where it has one axis."""

    @property
    def is_packed(self) -> bool:
        """Whether it lies in blocks."""
        return self.weight is not None

    def stored(self) -> StoredTensor:
        """All of it, as it was before packing."""
        return self._unpacked(np.arange(self.shape[0])) if self.is_packed else StoredTensor(self.array, self.format)

    def rows(self, indices: Integers) -> Floats:
        """Some rows of a table or of a linear's weight, as float32."""
        if self.is_packed:
            return float32(self._unpacked(indices))
        return float32(StoredTensor(self.array[indices], self.format))

    def _unpacked(self, indices: Integers) -> StoredTensor:
        indices = np.ascontiguousarray(indices)
        packed, count, in_ = as_bytes(self.array), len(indices), self.shape[1]
        if self.format is Format.INT8:
            array, scales = np.empty((count, in_), np.int8), np.empty(count, np.float32)
            _kernels.unpack_int8(packed, indices, in_, as_bytes(array), scales)
            return StoredTensor(array, self.format, scales)
        if self.format is Format.INT4:
            groups = -(-in_ // GROUP)
            array, bits = np.empty((count, groups * GROUP // 2), np.uint8), np.empty((count, groups), np.uint16)
            _kernels.unpack_int4(packed, indices, in_, as_bytes(array), as_bytes(bits))
            return StoredTensor(array, self.format, bits, in_)
        floats = np.empty((count, in_), self.array.dtype)
        _kernels.unpack(packed, indices, in_, floats.itemsize, as_bytes(floats))
        return StoredTensor(floats, self.format)


def pack(tensor: StoredTensor) -> StoredTensor:
    """A weight (out, in) in blocks of output channels, the last one filled up with noughts."""
    out, in_ = tensor.shape
    blocks, array = -(-out // _kernels.BLOCK), np.ascontiguousarray(tensor.array)
    if tensor.scales is None:
        packed = np.empty((blocks, in_, _kernels.BLOCK), array.dtype)
        _kernels.pack(as_bytes(array), out, in_, array.itemsize, as_bytes(packed))
        return StoredTensor(packed, tensor.format)
    scales = np.ascontiguousarray(tensor.scales)
    if tensor.format is Format.INT8:
        size, lay = _kernels.int8_block_size(in_), partial(_kernels.pack_int8, as_bytes(array), scales)
    else:
        size, lay = _kernels.int4_block_size(in_), partial(_kernels.pack_int4, as_bytes(array), as_bytes(scales))
    integers = np.empty(blocks * size, np.uint8)
    lay(out, in_, integers)
    return StoredTensor(integers, tensor.format)


def as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8)
