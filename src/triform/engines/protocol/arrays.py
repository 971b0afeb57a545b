"""Arrays and parameters: what an engine owns, and how it makes a checkpoint's tensors ready."""

from abc import ABC, abstractmethod
from enum import Flag, auto
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats import Format, StoredTensor

Array = Any
"""An engine's own array; NumPy on the CPU engines, `torch.Tensor` on the torch engine."""

Integers = NDArray[np.int64]


class ParameterRole(Flag):
    """What a parameter is for, which decides how an engine packs it. A tied head makes a table a linear as well."""

    VECTOR = auto()
    """A bias, or the weight of a norm: always float."""
    TABLE = auto()
    """Rows are looked up."""
    LINEAR = auto()
    """The weight of a linear, (out, in)."""


class Parameter(Protocol):
    """A handle to a parameter that an engine has made ready; only that engine looks inside."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape before any packing: (out, in) for the weight of a linear, (rows, D) for a table."""

    @property
    def format(self) -> Format:
        """How it is held in memory."""


class ParameterOperations(ABC):
    """Parameters and arrays."""

    formats: frozenset[Format]
    """The formats it can hold parameters in."""
    packing: str | None = None
    """Name and version of the form in which it holds the weights of linears, where a file of them is worth keeping."""

    @abstractmethod
    def prepare(self, name: str, tensor: StoredTensor, format: Format, use: ParameterRole) -> Parameter:
        """Make a tensor of the checkpoint ready for all it is used for, in one of `formats`.

        `name` is its canonical name. It is called once for each parameter, however many layers share it.
        """

    def pack(self, tensor: StoredTensor, format: Format) -> StoredTensor:
        """The weight of a linear in the form that `packing` names."""
        raise NotImplementedError

    def adopt(self, packed: StoredTensor, shape: tuple[int, ...]) -> Parameter:
        """What `prepare` would make of the weight of a linear, (out, in), of what `pack` made of it."""
        raise NotImplementedError

    @abstractmethod
    def stored(self, parameter: Parameter) -> StoredTensor:
        """The inverse of `prepare`, for export; float formats come back as they were given."""

    @abstractmethod
    def asarray(self, values: NDArray[Any]) -> Array:
        """A NumPy array of ids, positions, row numbers or float32 numbers, as the engine's own."""

    @abstractmethod
    def to_numpy(self, x: Array) -> NDArray[Any]:
        """An array of the engine as a NumPy array."""
