"""Checkpoint tensors → parameters, and back: mapped, renamed, accounted for to the last one."""

from triform.weights.adapter import Adapter, Update
from triform.weights.compressed_tensors import KEY, format_of, quantization_config, taken_together
from triform.weights.export import copy_small_files, make_folder, to_disk, write_json, write_tensors
from triform.weights.loading import ParameterLoader, named, read
from triform.weights.match import Assignment, match
from triform.weights.packed_cache import PackedCache
from triform.weights.table import Piece, Rename, Row, Table, Transpose, join
from triform.weights.tensors import Tensors, open_tensors

__all__ = [
    "KEY",
    "Adapter",
    "Assignment",
    "PackedCache",
    "ParameterLoader",
    "Piece",
    "Rename",
    "Row",
    "Table",
    "Tensors",
    "Transpose",
    "Update",
    "copy_small_files",
    "format_of",
    "join",
    "make_folder",
    "match",
    "named",
    "open_tensors",
    "quantization_config",
    "read",
    "taken_together",
    "to_disk",
    "write_json",
    "write_tensors",
]
