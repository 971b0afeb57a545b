"""Rows of files, read one after another: a file may be larger than memory."""

from triform.data.files import Files
from triform.data.formats import FileFormat, find_format, read_rows
from triform.data.row import Row
from triform.data.source import Source

__all__ = ["FileFormat", "Files", "Row", "Source", "find_format", "read_rows"]
