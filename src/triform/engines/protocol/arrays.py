"""Arrays and parameters: an engine makes them from the tensors of a checkpoint and the ids of a batch."""

from abc import ABC, abstractmethod
from enum import Flag, auto
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from triform.engines.formats import Format, StoredTensor
from triform.errors import EngineError

Array = Any
"""An engine's array as layers see one: opaque."""

Integers = NDArray[np.int64]
"""Ids, positions, row numbers and lengths, in NumPy on every engine."""


class ParameterRole(Flag):
    """A parameter serves in one or more roles, and the roles decide the packing.

    A word table that is tied to a language head is a table and a linear.
    """

    VECTOR = auto()
    """The bias of a linear, or the weight or bias of a norm; always float."""
    TABLE = auto()
    """A matrix (rows, D) whose rows are looked up."""
    LINEAR = auto()
    """The weight of a linear, (out, in)."""


class Parameter(Protocol):
    """A handle to a parameter of an engine; only the engine knows the contents."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape before any packing: (out, in) for the weight of a linear, (rows, D) for a table."""

    @property
    def format(self) -> Format:
        """The format in memory."""


ArrayT = TypeVar("ArrayT")
"""The array of an engine: NumPy on the CPU engines, `torch.Tensor` on the torch engine."""
ParameterT = TypeVar("ParameterT", bound=Parameter)
"""The handle that an engine makes of a parameter."""


class ParameterOperations(ABC, Generic[ArrayT, ParameterT]):
    """An engine prepares parameters, and converts arrays from and to NumPy."""

    name: str
    """The name in `engine` arguments."""
    formats: frozenset[Format]
    """The formats in which the engine can hold parameters."""
    packing: str | None = None
    """Name and version of the layout in which the engine packs the weights of linears; None where no file of packed
    weights is worth keeping."""

    @abstractmethod
    def prepare(self, name: str, tensor: StoredTensor, format: Format, role: ParameterRole) -> ParameterT:
        """Prepare a tensor of the checkpoint for all roles. Called once for each parameter, shared or not.

        Arguments:
            name: the canonical name, such as `blocks.3.attention.query.weight`.
            tensor: the numbers of the checkpoint.
            format: the format to hold them in, one of `formats`.
            use: all roles of the parameter.

        Raises:
            EngineError: the engine cannot hold the format.
            WeightError: NaN or infinity cannot become integers.
        """

    def check_format(self, name: str, format: Format) -> None:
        """Refuse a format outside `formats`.

        Raises:
            EngineError: naming the parameter and the formats of this engine.
        """
        if format not in self.formats:
            known = ", ".join(sorted(map(str, self.formats)))
            raise EngineError(f"{name}: the {self.name} engine cannot hold {format}. Choose a dtype from {known}.")

    def pack(self, tensor: StoredTensor, format: Format) -> StoredTensor:
        """Convert the weight of a linear (out, in) to the layout named by `packing`."""
        raise NotImplementedError

    def adopt(self, packed: StoredTensor, shape: tuple[int, ...]) -> ParameterT:
        """Make the parameter of a linear from the packed weight, as `prepare` would from the checkpoint's tensor.

        Arguments:
            packed: the result of `pack`, perhaps a view of a mapped file.
            shape: (out, in).
        """
        raise NotImplementedError

    @abstractmethod
    def stored(self, parameter: ParameterT) -> StoredTensor:
        """Undo `prepare`, for export; float formats come back bit for bit."""

    @abstractmethod
    def asarray(self, values: NDArray[Any]) -> ArrayT:
        """Convert a NumPy array of integers or float32 numbers to an array of the engine, of the same shape."""

    @abstractmethod
    def to_numpy(self, x: ArrayT) -> NDArray[Any]:
        """Convert an array of the engine to NumPy, of the same shape."""
