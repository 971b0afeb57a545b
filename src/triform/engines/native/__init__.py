"""The operations in C++: as exact as the reference engine, the same alone and in any batch to the last bit."""

from triform.engines.native.engine import NativeEngine

__all__ = ["NativeEngine"]
