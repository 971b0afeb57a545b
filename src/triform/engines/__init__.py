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

ENGINES = ("native", "reference", "torch")
"""The engines of this version; `auto` takes the first."""


def create_engine(name: str = "auto") -> Engine:
    """Make an engine by its name, one of `ENGINES` or "auto".

    "torch" takes a GPU if there is one; "torch:cpu", "torch:cuda:1" and the like name a device.

    Raises:
        EngineError: there is no engine or device of that name, or torch is not installed.
    """
    kind, _, device = name.partition(":")
    if kind == "torch":
        try:
            from triform.engines.torch import TorchEngine
        except ModuleNotFoundError as error:
            raise EngineError(
                f"engine={name!r} needs torch ({error}). Install it: pip install 'triform[torch]'."
            ) from error
        return TorchEngine(device or None)
    if kind == "native":
        from triform.engines.native import NativeEngine

        return NativeEngine(device or None)
    if name in ("auto", "reference"):
        from triform.engines.reference import ReferenceEngine

        return ReferenceEngine()
    raise EngineError(f"engine={name!r} is not known. Choose one of: auto, {', '.join(ENGINES)}, torch:DEVICE.")


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
