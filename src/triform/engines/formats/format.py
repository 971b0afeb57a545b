"""A format describes how the numbers of a parameter are stored."""

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, ClassVar

import numpy as np


class FormatKind(StrEnum):
    """A format stores floats, or integers with scales."""

    FLOAT = auto()
    INTEGER = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """The storage of a parameter's numbers, as a value; the presets are attributes of the class.

    The CPU engines compute in float32, whatever float format a parameter has. Integer formats are for the weights of
    linears; `integers.py` defines them.
    """

    FLOAT32: ClassVar["Format"]
    FLOAT16: ClassVar["Format"]
    BFLOAT16: ClassVar["Format"]
    INT8: ClassVar["Format"]
    INT4: ClassVar["Format"]

    name: str
    """The name in `dtype` arguments, in config.json and in safetensors' writer."""
    kind: FormatKind
    bits: int
    """Bits of each number."""
    storage: np.dtype[Any]
    """The element of the NumPy array that holds the numbers: the bits of a bfloat16 as uint16, two int4 in a uint8."""
    scales: "Format | None" = None
    """The format of the scales that integers are multiplied by; None for floats."""
    group_size: int | None = None
    """Inputs that share a scale (quantization per group).

    None: all inputs of an output channel share a scale (quantization per channel).
    """
    has_zero_points: bool = False
    """Integers are stored with an offset, the zero point, for each scale."""

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        # Engines look formats up while they compute; equal formats have equal names.
        return hash(self.name)

    @property
    def is_integer(self) -> bool:
        """The numbers are integers with scales."""
        return self.kind is FormatKind.INTEGER

    @property
    def numbers_per_element(self) -> int:
        """Numbers in each element of `storage`."""
        return 8 * self.storage.itemsize // self.bits


def _float(name: str, bits: int, storage: type[np.generic]) -> Format:
    return Format(name=name, kind=FormatKind.FLOAT, bits=bits, storage=np.dtype(storage))


Format.FLOAT32 = _float("float32", 32, np.float32)
Format.FLOAT16 = _float("float16", 16, np.float16)
Format.BFLOAT16 = _float("bfloat16", 16, np.uint16)
Format.INT8 = Format(name="int8", kind=FormatKind.INTEGER, bits=8, storage=np.dtype(np.int8), scales=Format.FLOAT32)
Format.INT4 = Format(
    name="int4",
    kind=FormatKind.INTEGER,
    bits=4,
    storage=np.dtype(np.uint8),
    scales=Format.BFLOAT16,
    group_size=32,
)

FORMATS = {
    format.name: format for format in (Format.FLOAT32, Format.FLOAT16, Format.BFLOAT16, Format.INT8, Format.INT4)
}
"""The formats of this version by name."""
