"""Reading parameters, one tensor at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, replace

from triform.engines import FORMATS, Engine, Format, Parameter, ParameterRole, StoredTensor
from triform.errors import EngineError, WeightError
from triform.weights.adapter import Update
from triform.weights.packed_cache import LEAST_BYTES, PackedCache
from triform.weights.table import TensorSlice
from triform.weights.tensors import Tensors


class ParameterLoader:
    """The parameters of a checkpoint by canonical name, each made ready by the engine when it is first asked for."""

    def __init__(
        self,
        engine: Engine,
        tensors: Tensors,
        sources: Mapping[str, TensorSlice],
        uses: Mapping[str, ParameterRole],
        dtype: str,
        updates: Mapping[str, Update] | None = None,
    ) -> None:
        self._engine = engine
        self._tensors = tensors
        self._sources = sources
        self._uses = uses
        self._updates = updates or {}
        self._format = _chosen_format(engine, dtype)
        self._packed: Tensors | None = None
        self.parameters: dict[str, Parameter] = {}

    def __call__(self, name: str, shape: tuple[int, ...], use: ParameterRole) -> Parameter:
        if name not in self.parameters:
            if self._packed is not None and name in self._packed:
                self.parameters[name] = self._engine.adopt(self._packed.read(name), shape)
            else:
                with named(name):
                    self.parameters[name] = self._engine.prepare(name, *self._read(name), self._uses[name])
        return self.parameters[name]

    def use_packed(self, cache: PackedCache, source: str) -> None:
        """Take the weights of linears as an earlier start packed them, or pack them for the next one.

        Those that an adapter has changed are packed anew each time.
        """
        if self._engine.packing is None or self._updates:
            return
        names = [name for name, use in self._uses.items() if ParameterRole.LINEAR in use]
        infos = [self._tensors[tensor] for tensor in {self._sources[name].tensor for name in names}]
        if not LEAST_BYTES <= sum(info.end - info.begin for info in infos) <= cache.limit:
            return
        identity = {
            "packing": self._engine.packing,
            "format": None if self._format is None else self._format.name,
            "files": self._tensors.identity(),
            "pieces": {name: astuple(self._sources[name]) for name in names},
        }
        self._packed = cache.open(identity, source, names, self._pack)

    def _pack(self, name: str) -> StoredTensor:
        with named(name):
            return self._engine.pack(*self._read(name))

    def _read(self, name: str) -> tuple[StoredTensor, Format]:
        """The tensor of a parameter, and the format to hold it in: integers for the weights of linears alone."""
        tensor = read_parameter(self._tensors, self._sources[name], self._updates.get(name))
        format = self._format or tensor.format
        if format.is_integer and ParameterRole.LINEAR not in self._uses[name]:
            format = Format.FLOAT32 if tensor.format.is_integer else tensor.format
        return tensor, format


def read_parameter(tensors: Tensors, piece: TensorSlice, update: Update | None) -> StoredTensor:
    """The tensor of a parameter: a piece of a checkpoint's, with what an adapter changes of it."""
    stored = tensors.read(piece.tensor)
    scales = None if stored.scales is None else piece.cut(stored.scales)
    tensor = replace(stored, array=piece.cut(stored.array), scales=scales)
    return tensor if update is None else update(tensor)


@contextmanager
def named(name: str) -> Iterator[None]:
    """What is wrong with a parameter is told with its name."""
    try:
        yield
    except WeightError as error:
        raise WeightError(f"{name}: {error}") from error


def _chosen_format(engine: Engine, dtype: str) -> Format | None:
    """The format of a `dtype` argument; None for "auto", which keeps each tensor as it is stored.

    Integers are for the weights of linears; everything else is then held as "auto" says.

    What an adapter has changed is stored nowhere; "auto" keeps it in float32, since most of a small change would be
    lost if it were rounded to the 8 bits of a bfloat16.

    Raises:
        EngineError: the engine does not have it.
    """
    if dtype == "auto":
        return None
    format = FORMATS.get(dtype)
    if format not in engine.formats:
        known = ", ".join(sorted(map(str, engine.formats)))
        raise EngineError(f"dtype={dtype!r}: the {engine.name} engine has auto, {known}.")
    return format
