"""Formats of stored numbers as values, and the conversions between them."""

from triform.engines.formats.conversion import convert, to_float32
from triform.engines.formats.floats import Floats
from triform.engines.formats.format import FORMATS, Format, FormatKind
from triform.engines.formats.stored_tensor import StoredTensor

__all__ = ["FORMATS", "Floats", "Format", "FormatKind", "StoredTensor", "convert", "to_float32"]
