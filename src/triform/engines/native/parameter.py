"""Parameters as the kernels read them: linears in blocks of output channels, all else as stored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import triform.engines.native._kernels as _kernels
from triform.engines.protocol import Format, Integers, StoredTensor
from triform.engines.reference.floats import Floats, widen


@dataclass(frozen=True, eq=False, slots=True)
class NativeParameter:
    """A tensor, packed where a linear reads it. A table that is also a linear is there once."""

    array: NDArray[Any]
    """As stored; or, packed, (blocks, in, BLOCK) with the output channels in the last axis."""
    format: Format
    shape: tuple[int, ...]
    is_packed: bool

    def rows(self, indices: Integers) -> NDArray[Any]:
        """Some rows of a table or of a linear's weight, as stored."""
        if not self.is_packed:
            return self.array[indices]
        out = np.empty((len(indices), self.shape[1]), self.array.dtype)
        _kernels.unpack(_bytes(self.array), np.ascontiguousarray(indices), self.shape[1], out.itemsize, _bytes(out))
        return out

    def float32(self) -> Floats:
        """All numbers of a vector as float32."""
        return np.ascontiguousarray(widen(self.array, self.format))


def pack(tensor: StoredTensor) -> StoredTensor:
    """A weight (out, in) in blocks of output channels, the last one filled up with noughts."""
    out, in_ = tensor.array.shape
    array = np.ascontiguousarray(tensor.array)
    packed = np.empty((-(-out // _kernels.BLOCK), in_, _kernels.BLOCK), array.dtype)
    _kernels.pack(_bytes(array), out, in_, array.itemsize, _bytes(packed))
    return StoredTensor(packed, tensor.format)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)
