"""Formats that several tests share."""

from triform.engines import FORMATS

FLOATS = [format for format in FORMATS.values() if not format.is_integer]
INTEGERS = [format for format in FORMATS.values() if format.is_integer]
