"""Checkpoint tensors → parameters, and back: mapped, renamed, accounted for to the last one."""

from triform.weights.export import write_json, write_tensors
from triform.weights.loading import ParameterLoader
from triform.weights.match import Assignment, match
from triform.weights.table import Rename, Table
from triform.weights.tensors import FORMATS, Tensors, open_tensors

__all__ = [
    "FORMATS",
    "Assignment",
    "ParameterLoader",
    "Rename",
    "Table",
    "Tensors",
    "match",
    "open_tensors",
    "write_json",
    "write_tensors",
]
