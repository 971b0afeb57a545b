"""Checkpoint tensors → parameters, and back.

In the order of the data:

    tensors.py             safetensors files: headers, mapped bytes
    compressed_tensors.py  quantized checkpoints: integers with their scales
    slices.py              the part of a tensor that is one parameter, with an inverse
    table.py               names in checkpoints ↔ canonical names: the weight table of a family
    matching.py            every tensor and every parameter accounted for
    adapter.py             LoRA adapters, merged while loading: adapter_config.py, updates.py
    loading.py             tensors → parameters of an engine
    packed_cache.py        packed weights in files, for the next start
    export.py              tensors → files in the Hugging Face layout
    convert.py             pickles → safetensors
"""

from triform.weights.compressed_tensors import (
    QUANTIZATION_KEY,
    combine_quantized,
    quantization_config,
    read_quantized_format,
)
from triform.weights.export import check_output, copy_small_files, write_tensors
from triform.weights.loading import ParameterLoader, naming_parameter, read_parameter
from triform.weights.matching import Assignment, match_tensors
from triform.weights.packed_cache import PackedCache
from triform.weights.slices import Flatten, SliceStep, Split, Stack, TensorSlice, Transpose, join_slices
from triform.weights.table import Rename, WeightTable
from triform.weights.tensors import Tensors, open_tensors

__all__ = [
    "QUANTIZATION_KEY",
    "Assignment",
    "Flatten",
    "PackedCache",
    "ParameterLoader",
    "Rename",
    "SliceStep",
    "Split",
    "Stack",
    "TensorSlice",
    "Tensors",
    "Transpose",
    "WeightTable",
    "check_output",
    "combine_quantized",
    "copy_small_files",
    "join_slices",
    "match_tensors",
    "naming_parameter",
    "open_tensors",
    "quantization_config",
    "read_parameter",
    "read_quantized_format",
    "write_tensors",
]
