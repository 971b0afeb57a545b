"""Scope: the engine and the parameters at a place of the network, for building layers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from triform.engines import Engine, Parameter, ParameterRole

ParameterSource = Callable[[str, tuple[int, ...], ParameterRole], Parameter]
"""(canonical name, shape, role) → the parameter; the same object for each call with a name."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A place in the tree of canonical names, such as `blocks.3.attention`."""

    engine: Engine
    source: ParameterSource
    stack: str = ""
    """The prefix of the stack this place belongs to: nothing, `encoder.` or `decoder.`."""
    path: str = ""

    def __truediv__(self, name: str) -> "Scope":
        return Scope(self.engine, self.source, self.stack, self._path_of(name))

    def of_stack(self, name: str) -> "Scope":
        """Enter the stack of this name: encoder or decoder."""
        return replace(self, stack=f"{name}.")

    def top(self) -> "Scope":
        """Return to the stack's top, for parameters shared by layers."""
        return replace(self, path="")

    @property
    def name(self) -> str:
        """The full canonical name of this place."""
        return self.stack + self.path

    def vector(self, name: str, size: int) -> Parameter:
        """Take the bias or norm of this name at this place."""
        return self.source(self.stack + self._path_of(name), (size,), ParameterRole.VECTOR)

    def table(self, name: str, num_rows: int, size: int) -> Parameter:
        """Take the table of this name at this place."""
        return self.source(self.stack + self._path_of(name), (num_rows, size), ParameterRole.TABLE)

    def linear(self, name: str, out_features: int, in_features: int) -> Parameter:
        """Take the weight of a linear of this name at this place."""
        return self.source(self.stack + self._path_of(name), (out_features, in_features), ParameterRole.LINEAR)

    def _path_of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name
