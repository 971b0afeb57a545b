"""The operations in C++: as exact as the reference engine, the same alone and in any batch to the last bit."""

from triform.engines.native import _kernels as _kernels
from triform.engines.native.engine import NativeEngine
from triform.engines.native.threads import num_threads

_kernels.set_num_threads(num_threads())

__all__ = ["NativeEngine"]
