"""Reading parameters, one tensor at a time."""

from collections.abc import Mapping

from triform.engines import Engine, Format, Parameter, StoredTensor, Use
from triform.errors import EngineError
from triform.weights.adapter import Update
from triform.weights.table import Piece
from triform.weights.tensors import Tensors


class ParameterLoader:
    """The parameters of a checkpoint by canonical name, each made ready by the engine when it is first asked for."""

    def __init__(
        self,
        engine: Engine,
        tensors: Tensors,
        sources: Mapping[str, Piece],
        uses: Mapping[str, Use],
        dtype: str,
        updates: Mapping[str, Update] | None = None,
    ) -> None:
        self._engine = engine
        self._tensors = tensors
        self._sources = sources
        self._uses = uses
        self._updates = updates or {}
        self._format = _chosen_format(engine, dtype)
        self.parameters: dict[str, Parameter] = {}

    def __call__(self, name: str, shape: tuple[int, ...], use: Use) -> Parameter:
        if name not in self.parameters:
            piece = self._sources[name]
            stored = self._tensors.read(piece.tensor)
            tensor = StoredTensor(piece.cut(stored.array), stored.format)
            if name in self._updates:
                tensor = self._updates[name](tensor)
            self.parameters[name] = self._engine.prepare(name, tensor, self._format or tensor.format, self._uses[name])
        return self.parameters[name]


def _chosen_format(engine: Engine, dtype: str) -> Format | None:
    """The format of a `dtype` argument; None for "auto", which keeps each tensor as it is stored.

    What an adapter has changed is stored nowhere; "auto" keeps it in float32, since most of a small change would be
    lost if it were rounded to the 8 bits of a bfloat16.

    Raises:
        EngineError: the engine does not have it.
    """
    if dtype == "auto":
        return None
    if dtype not in engine.formats:
        known = ", ".join(sorted(engine.formats))
        raise EngineError(f"dtype={dtype!r}: the {engine.name} engine has auto, {known}.")
    return Format(dtype)
