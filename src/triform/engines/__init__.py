"""Where the arithmetic happens: one protocol, and the engines that implement it."""

from triform.engines.protocol import (
    Array,
    DistanceBias,
    Engine,
    Format,
    Integers,
    KeyValues,
    KeyValueStore,
    PackedKeyValues,
    PagedKeyValues,
    PageTable,
    Parameter,
    ProbabilityTap,
    Spans,
    StoredTensor,
    Tap,
    Use,
)
from triform.errors import EngineError

ENGINES = ("reference",)
"""The engines of this version, the fastest first; `auto` takes the first that can be used."""


def create_engine(name: str = "auto") -> Engine:
    """Make an engine by its name, one of `ENGINES` or "auto".

    Raises:
        EngineError: there is no engine of that name.
    """
    if name in ("auto", "reference"):
        from triform.engines.reference import ReferenceEngine

        return ReferenceEngine()
    raise EngineError(f"engine={name!r} is not known. Choose one of: auto, {', '.join(ENGINES)}.")


__all__ = [
    "ENGINES",
    "Array",
    "DistanceBias",
    "Engine",
    "Format",
    "Integers",
    "KeyValueStore",
    "KeyValues",
    "PackedKeyValues",
    "PageTable",
    "PagedKeyValues",
    "Parameter",
    "ProbabilityTap",
    "Spans",
    "StoredTensor",
    "Tap",
    "Use",
    "create_engine",
]
