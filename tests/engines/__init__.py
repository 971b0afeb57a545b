"""What tests of formats share."""

from triform.engines import Format

FLOATS = [format for format in Format if not format.is_integer]
INTEGERS = [format for format in Format if format.is_integer]
