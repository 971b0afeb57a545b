"""Loading: checkpoint tensors → parameters of an engine, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from triform.engines import FORMATS, Engine, Format, Parameter, ParameterRole, StoredTensor
from triform.errors import EngineError, WeightError
from triform.weights.packed_cache import LEAST_BYTES, PackedCache
from triform.weights.slices import TensorSlice
from triform.weights.tensors import Tensors

if TYPE_CHECKING:
    from triform.weights.updates import Update


class ParameterLoader:
    """The parameters of a checkpoint by canonical name. The engine prepares a parameter at the first use."""

    def __init__(
        self,
        engine: Engine,
        tensors: Tensors,
        sources: Mapping[str, TensorSlice],
        roles: Mapping[str, ParameterRole],
        dtype: str,
        updates: Mapping[str, Update] | None = None,
    ) -> None:
        self._engine = engine
        self._tensors = tensors
        self._sources = sources
        self._roles = roles
        self._updates = updates or {}
        self._format = _chosen_format(engine, dtype)
        self._packed: Tensors | None = None
        self.parameters: dict[str, Parameter] = {}

    def __call__(self, name: str, shape: tuple[int, ...], role: ParameterRole) -> Parameter:
        if name not in self.parameters and self._packed is not None and name in self._packed:
            # A packed weight of another size is packed again.
            with suppress(WeightError):
                self.parameters[name] = self._engine.adopt(self._packed.read(name), shape)
        if name not in self.parameters:
            with naming_parameter(name):
                self.parameters[name] = self._engine.prepare(name, *self._read(name), self._roles[name])
        return self.parameters[name]

    def use_packed(self, cache: PackedCache, source: str) -> None:
        """Take the weights of linears from the packed cache. Without a file in the cache, pack them first.

        Weights that an adapter changes are packed at every start.

        Arguments:
            cache: the files of packed weights.
            source: the model's name, for people.
        """
        if self._engine.packing is None or self._updates:
            return
        names = [name for name, role in self._roles.items() if ParameterRole.LINEAR in role]
        tensors = {self._sources[name].tensor for name in names}
        infos = [self._tensors[tensor] for tensor in tensors]
        if not LEAST_BYTES <= sum(info.end - info.begin for info in infos) <= cache.limit:
            return
        identity = {
            "packing": self._engine.packing,
            "format": None if self._format is None else self._format.name,
            "files": self._tensors.identity(tensors),
            "slices": {name: repr(self._sources[name]) for name in names},
        }
        self._packed = cache.open(identity, source, names, self._pack)

    def _pack(self, name: str) -> StoredTensor:
        with naming_parameter(name):
            return self._engine.pack(*self._read(name))

    def _read(self, name: str) -> tuple[StoredTensor, Format]:
        """Return the tensor of a parameter, and the format to hold it in: integers only for the weights of linears."""
        tensor = read_parameter(self._tensors, self._sources[name], self._updates.get(name))
        format = self._format or tensor.format
        if format.is_integer and ParameterRole.LINEAR not in self._roles[name]:
            format = Format.FLOAT32 if tensor.format.is_integer else tensor.format
        return tensor, format


def read_parameter(tensors: Tensors, source: TensorSlice, update: Update | None) -> StoredTensor:
    """Return the tensor of a parameter: a slice of a checkpoint tensor, with the update of an adapter, if any."""
    stored = tensors.read(source.tensor)
    scales = None if stored.scales is None else source.cut(stored.scales)
    tensor = replace(stored, array=source.cut(stored.array), scales=scales)
    return tensor if update is None else update(tensor)


@contextmanager
def naming_parameter(name: str) -> Iterator[None]:
    """Put the name of a parameter before the message of a WeightError."""
    try:
        yield
    except WeightError as error:
        raise WeightError(f"{name}: {error}") from error


def _chosen_format(engine: Engine, dtype: str) -> Format | None:
    """Return the format of a `dtype` argument; None for "auto": each tensor as stored.

    Integers are for the weights of linears; all other parameters are then held as "auto" holds them.

    A weight that an adapter changes is not stored in any file; "auto" keeps the weight in float32, since rounding to
    the 8 bits of a bfloat16 would lose most of a small change.

    Raises:
        EngineError: the engine lacks the format.
    """
    if dtype == "auto":
        return None
    format = FORMATS.get(dtype)
    if format not in engine.formats:
        known = ", ".join(sorted(map(str, engine.formats)))
        raise EngineError(f"dtype={dtype!r}: the {engine.name} engine has auto, {known}.")
    return format
