"""Parameters as the kernels read them: linears in blocks of output channels, all others as stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import triform.engines.native._kernels as _kernels
from triform.engines.formats import Floats, Format, StoredTensor, to_float32
from triform.engines.protocol import Integers


@dataclass(frozen=True, eq=False, slots=True)
class NativeParameter:
    """A tensor, packed if a linear reads the tensor. A tied table and linear share one copy."""

    array: NDArray[Any]
    """As stored, or packed as `kernels/layout/weights.h` draws it: (blocks, in, BLOCK) floats, or the bytes of integers
    and their scales."""
    format: Format
    code: _kernels.Format
    """The code of the format in the kernels."""
    shape: tuple[int, ...]
    weight: _kernels.Weight | None = None
    """The packed array for the kernels of linears; None if not packed."""
    vector: Floats | None = None
    """The numbers of a vector in float32, for all other kernels; None for a matrix."""

    @property
    def is_packed(self) -> bool:
        """The array is in blocks of output channels."""
        return self.weight is not None

    def stored(self) -> StoredTensor:
        """Return the whole tensor, unpacked."""
        return self._unpacked(np.arange(self.shape[0])) if self.is_packed else StoredTensor(self.array, self.format)

    def rows(self, indices: Integers) -> Floats:
        """Widen some rows of a table or of a linear's weight to float32: (rows, D) and (T,) indices → (T, D)."""
        if self.is_packed:
            return to_float32(self._unpacked(indices))
        return to_float32(StoredTensor(self.array[indices], self.format))

    def _unpacked(self, indices: Integers) -> StoredTensor:
        packed, indices = as_bytes(self.array), np.ascontiguousarray(indices)
        in_features = self.shape[1]
        rows = StoredTensor.empty(self.format, len(indices), in_features)
        if rows.scales is None:
            _kernels.unpack(packed, indices, in_features, rows.array.itemsize, as_bytes(rows.array))
        else:
            unpack = INTEGER_KERNELS[self.format].unpack
            unpack(packed, indices, in_features, as_bytes(rows.array), _as_scales(rows.scales))
        return rows


class IntegerKernels(NamedTuple):
    """Kernels to pack and unpack the weights of an integer format in blocks of output channels."""

    block_size: Callable[[int], int]
    """in → bytes of a block."""
    pack: Callable[..., None]
    """(numbers, scales, out, in, packed)"""
    unpack: Callable[..., None]
    """(packed, rows, in, numbers, scales)"""


INTEGER_KERNELS = {
    Format.INT8: IntegerKernels(_kernels.int8_block_size, _kernels.pack_int8, _kernels.unpack_int8),
    Format.INT4: IntegerKernels(_kernels.int4_block_size, _kernels.pack_int4, _kernels.unpack_int4),
}


def packed_size(format: Format, out: int, in_features: int) -> int:
    """Return the bytes of a weight (out, in) in blocks of output channels."""
    if format in INTEGER_KERNELS:
        return -(-out // _kernels.BLOCK) * INTEGER_KERNELS[format].block_size(in_features)
    return -(-out // _kernels.BLOCK) * _kernels.BLOCK * in_features * format.storage.itemsize


def pack(tensor: StoredTensor) -> StoredTensor:
    """Lay a weight (out, in) in blocks of output channels, the last block padded with zeros."""
    out, in_features = tensor.shape
    num_blocks, array = -(-out // _kernels.BLOCK), np.ascontiguousarray(tensor.array)
    if tensor.scales is None:
        packed = np.empty((num_blocks, in_features, _kernels.BLOCK), array.dtype)
        _kernels.pack(as_bytes(array), out, in_features, array.itemsize, as_bytes(packed))
    else:
        kernels, scales = INTEGER_KERNELS[tensor.format], np.ascontiguousarray(tensor.scales)
        packed = np.empty(num_blocks * kernels.block_size(in_features), np.uint8)
        kernels.pack(as_bytes(array), _as_scales(scales), out, in_features, packed)
    return StoredTensor(packed, tensor.format)


def as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """View a contiguous array of any shape as bytes, in one axis."""
    return array.reshape(-1).view(np.uint8)


def _as_scales(scales: NDArray[Any]) -> NDArray[Any]:
    """Scales as kernels take them: float32, or the bytes of a bfloat16."""
    return scales if scales.dtype == np.float32 else as_bytes(scales)
