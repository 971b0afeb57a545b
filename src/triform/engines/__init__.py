"""Engines do the arithmetic: one protocol, the formats of numbers, and the engines that implement the protocol."""

import warnings
from importlib import import_module

from triform.engines.formats import FORMATS, Floats, Format, StoredTensor, convert, to_float32
from triform.engines.protocol import (
    Array,
    Bias,
    Dense,
    DistanceBias,
    Engine,
    Hook,
    Integers,
    KeysAndValues,
    KeyValues,
    KeyValueStore,
    LayerCache,
    PackedKeyValues,
    PagedKeyValues,
    PageTable,
    Parameter,
    ParameterRole,
    ProbabilityHook,
    RelativeEmbeddings,
    Selection,
    Spans,
)
from triform.errors import EngineError, EngineWarning

ENGINES = ("native", "reference", "torch")
"""The engines of this version; "auto" is the native engine where its kernels were built, else the reference engine."""


def create_engine(name: str = "auto") -> Engine:
    """Make an engine by name: a member of `ENGINES`, or "auto".

    "torch" takes a GPU if there is one; "torch:cpu", "torch:cuda:1" and the like name a device, and "native:avx2" an
    instruction set.

    Raises:
        EngineError: no engine, device or instruction set has that name, or torch is not installed.

    Warns:
        EngineWarning: "auto" falls back on the slower reference engine.
    """
    kind, _, variant = name.partition(":")
    if kind == "auto":
        kind = "native"
        try:
            import_module("triform.engines.native")
        except ImportError as error:
            kind = "reference"
            warnings.warn(
                f"The native kernels were not built when Triform was installed ({error}), so the slower reference "
                "engine is used. Install Triform again where there is a C++ compiler.",
                EngineWarning,
                stacklevel=2,
            )
    try:
        match kind:
            case "native":
                from triform.engines.native import NativeEngine

                return NativeEngine(variant or None)
            case "torch":
                from triform.engines.torch import TorchEngine

                return TorchEngine(variant or None)
            case "reference" if not variant:
                from triform.engines.reference import ReferenceEngine

                return ReferenceEngine()
    except ImportError as error:
        remedy = "pip install 'triform[torch]'" if kind == "torch" else "install Triform where there is a C++ compiler"
        raise EngineError(f"engine={name!r} cannot be used ({error}). Remedy: {remedy}.") from error
    raise EngineError(
        f"engine={name!r} is not known. Choose one of: auto, {', '.join(ENGINES)}, torch:DEVICE, native:INSTRUCTIONS."
    )


__all__ = [
    "ENGINES",
    "FORMATS",
    "Array",
    "Bias",
    "Dense",
    "DistanceBias",
    "Engine",
    "Floats",
    "Format",
    "Hook",
    "Integers",
    "KeyValueStore",
    "KeyValues",
    "KeysAndValues",
    "LayerCache",
    "PackedKeyValues",
    "PageTable",
    "PagedKeyValues",
    "Parameter",
    "ParameterRole",
    "ProbabilityHook",
    "RelativeEmbeddings",
    "Selection",
    "Spans",
    "StoredTensor",
    "convert",
    "create_engine",
    "to_float32",
]
