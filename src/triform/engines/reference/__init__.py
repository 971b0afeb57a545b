"""The reference engine: the plainest correct definition of every operation, in NumPy."""

from triform.engines.reference.engine import ReferenceEngine

__all__ = ["ReferenceEngine"]
