"""A tensor as a file stores it: an array, its format and its scales."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats.format import Format


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in the format of a file, usually a view of mapped memory."""

    array: NDArray[Any]
    """Elements of `format.storage`.

    int8: (out, in) of −127 … 127; checkpoints of others may hold −128.
    int4: (out, ⌈in / 32⌉ · 16); byte j of a group of 32 inputs holds input j in its low nibble and input j + 16 in its
    high one, each as q + 8. Where the last group is short, the rest is 8.
    """
    format: Format
    scales: NDArray[Any] | None = None
    """Elements of `format.scales.storage`, (out,) or with groups (out, ⌈in / group_size⌉). A weight is q · scale."""
    in_features: int | None = None
    """Inputs of a weight whose elements hold several; None for a multiple of the group."""

    @classmethod
    def empty(cls, format: Format, out: int, in_features: int) -> "StoredTensor":
        """Allocate a weight (out, in_features), with numbers and scales not yet written."""
        size, num_groups = in_features, 1
        if format.group_size is not None:
            num_groups = -(-in_features // format.group_size)
            size = num_groups * format.group_size
        array = np.empty((out, size // format.numbers_per_element), format.storage)
        if format.scales is None:
            return cls(array, format)
        scales = np.empty((out,) if format.group_size is None else (out, num_groups), format.scales.storage)
        return cls(array, format, scales, in_features)

    @property
    def shape(self) -> tuple[int, ...]:
        """The logical shape of the tensor: (out, in) for the weight of a linear, however the integers are packed."""
        per_element = self.format.numbers_per_element
        if per_element == 1:
            return self.array.shape
        return (len(self.array), self.in_features or per_element * self.array.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers and their scales."""
        return self.array.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def rows(self, rows: NDArray[np.int64] | slice) -> "StoredTensor":
        """Return some rows of a matrix, a view for a slice: shape (rows, in) → (len(rows), in)."""
        return replace(self, array=self.array[rows], scales=None if self.scales is None else self.scales[rows])
