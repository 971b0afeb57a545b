"""Checkpoint tensors → parameters, and back: mapped, renamed, accounted for to the last one."""

from triform.weights.adapter import Adapter, Update
from triform.weights.compressed_tensors import KEY, format_of, quantization_config, taken_together
from triform.weights.export import copy_small_files, make_folder, to_disk, write_json, write_tensors
from triform.weights.loading import ParameterLoader, named, read_parameter
from triform.weights.match import Assignment, match_tensors
from triform.weights.packed_cache import PackedCache
from triform.weights.table import Rename, Row, Table, TensorSlice, Transpose, join
from triform.weights.tensors import Tensors, open_tensors

__all__ = [
    "KEY",
    "Adapter",
    "Assignment",
    "PackedCache",
    "ParameterLoader",
    "Rename",
    "Row",
    "Table",
    "TensorSlice",
    "Tensors",
    "Transpose",
    "Update",
    "copy_small_files",
    "format_of",
    "join",
    "make_folder",
    "match_tensors",
    "named",
    "open_tensors",
    "quantization_config",
    "read_parameter",
    "taken_together",
    "to_disk",
    "write_json",
    "write_tensors",
]
