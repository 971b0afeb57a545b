"""The native engine: kernels in C++, as exact as the reference engine, and batch-invariant bit for bit."""

from triform.engines.native.engine import NativeEngine

__all__ = ["NativeEngine"]
