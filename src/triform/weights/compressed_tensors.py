"""Quantized checkpoints in the layout of the library compressed-tensors, for transformers and vLLM.

The files hold a linear X in several tensors. int8: `X.weight` (out, in) and `X.weight_scale` (out, 1). int4:
`X.weight_packed` (out, in / 8), eight inputs as q + 8 in an int32, the first in the lowest nibble; `X.weight_scale`
(out, in / 32), a bfloat16 for each group; `X.weight_shape` (2,). In memory they are one tensor `X.weight`. All other
variants of the layout are refused.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.engines import Format, StoredTensor, to_float32
from triform.errors import UnsupportedModelError, WeightError
from triform.weights.tensors import FORMATS, TensorInfo, Tensors

QUANTIZATION_KEY = "quantization_config"
"""The key in config.json."""
NAMES = {"int-quantized": Format.INT8, "pack-quantized": Format.INT4}
"""Name of the format in the layout → format."""
IGNORED = frozenset(
    """
    ignore targets version quantization_status global_compression_ratio observer observer_kwargs scale_dtype zp_dtype
    """.split()
)
"""Keys about the way to the integers, or about facts that the tensors show."""
ACTIVATIONS = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": True, "strategy": "token"}
"""Quantization of the inputs of an int8 weight."""
DEFAULTS = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False}
REMEDY = "Take the model in floats, and load it with dtype='int8' or dtype='int4'."

Content = Mapping[str, tuple[str, NDArray[Any]]]
"""Tensor name → dtype in the spelling of safetensors' writer, array."""


def quantization_config(format: Format, ignore: Collection[str]) -> dict[str, Any]:
    """Return the `quantization_config` of config.json for a quantized checkpoint.

    Arguments:
        format: int8 or int4.
        ignore: modules of linears that stay in floats.
    """
    symmetric = not format.has_zero_points
    weights = {"num_bits": format.bits, "type": "int", "symmetric": symmetric, "dynamic": False, "strategy": "channel"}
    if format.group_size is not None:
        weights |= {"strategy": "group", "group_size": format.group_size}
    # Nothing is said of the activations of int4, since most readers have kernels only for floats.
    group = {"weights": weights, "input_activations": ACTIVATIONS if format.group_size is None else None}
    return {
        "quant_method": "compressed-tensors",
        "format": next(name for name, its in NAMES.items() if its == format),
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], **group}},
        "ignore": sorted(ignore),
    }


def read_quantized_format(config: Mapping[str, Any], where: str) -> Format | None:
    """Return the format of the integers in a checkpoint; None if config.json has no `quantization_config`.

    Arguments:
        config: the contents of config.json.
        where: the path of config.json, for messages.

    Raises:
        UnsupportedModelError: the integers are not Triform's int8 or int4.
    """
    given = config.get(QUANTIZATION_KEY)
    if given is None:
        return None
    method = given.get("quant_method") if isinstance(given, Mapping) else given
    if method != "compressed-tensors":
        raise UnsupportedModelError(
            f"{where}: {QUANTIZATION_KEY} has quant_method {method!r:.300}; Triform reads quantized models in the "
            f"layout of compressed-tensors. {REMEDY}"
        )
    format = NAMES.get(str(given.get("format")))
    if format is None:
        raise UnsupportedModelError(
            f"{where}: {QUANTIZATION_KEY} has format {given.get('format')!r:.300}; "
            f"Triform reads {' and '.join(NAMES)}. {REMEDY}"
        )
    problems = list(_problems_of_config(given, format))
    if problems:
        listed = "\n  ".join(problems)
        raise UnsupportedModelError(
            f"{where}: {QUANTIZATION_KEY} asks for what Triform's {format} does not have:\n  {listed}\n{REMEDY}"
        )
    return format


def _problems_of_config(given: Mapping[str, Any], format: Format) -> Iterator[str]:
    expected = quantization_config(format, ())
    [group] = expected.pop("config_groups").values()
    groups = given.get("config_groups")
    yield from _differences({key: value for key, value in given.items() if key != "config_groups"}, expected, "")
    if not isinstance(groups, Mapping) or not groups:
        yield f"config_groups = {groups!r:.300}, expected an object of groups"
        return
    for name, own in groups.items():
        path = f"config_groups.{name}"
        if not isinstance(own, Mapping):
            yield f"{path} = {own!r:.300}, expected an object"
            continue
        activations = own.get("input_activations")
        if activations is not None:
            # Triform quantizes the activations of int4 too, and the file need not say it.
            group = {**group, "input_activations": ACTIVATIONS}
        yield from _differences(own, {**group, "format": own.get("format") and expected["format"]}, path + ".")


def _differences(given: Mapping[str, Any], expected: Mapping[str, Any], path: str) -> Iterator[str]:
    for key in sorted({*given, *expected} - IGNORED):
        value, wanted = given.get(key, DEFAULTS.get(key)), expected.get(key)
        if isinstance(value, Mapping) and isinstance(wanted, Mapping):
            yield from _differences(value, wanted, f"{path}{key}.")
        elif value != wanted and (wanted is not None or value not in ({}, [])):
            yield f"{path}{key} = {value!r:.300}, expected {wanted!r}"


class CompressedTensors(Tensors):
    """Checkpoint tensors with the scales inside each integer weight."""

    def read(self, name: str) -> StoredTensor:
        """Return the tensor; an int4 weight is a copy with reordered inputs.

        Raises:
            WeightError: the scales are not finite.
        """
        info = self[name]
        if info.scales is None:
            return super().read(name)
        scales = self.read_info(info.scales)
        if not np.isfinite(to_float32(scales)).all():
            raise WeightError(f"{name}_scale holds NaN or infinity. Fetch the checkpoint again.")
        assert info.format is not None
        if (group_size := info.format.group_size) is None:
            array = self.view_bytes(info).view(info.format.storage).reshape(info.shape)
            return StoredTensor(array, info.format, to_float32(scales).reshape(-1))
        array = _to_groups(self.view_bytes(info).reshape(info.shape[0], -1), group_size)
        return StoredTensor(array, info.format, scales.array)


def combine_quantized(tensors: Tensors, format: Format) -> CompressedTensors:
    """Return the tensors of a quantized checkpoint by the names of a float checkpoint, each weight with its scales.

    Arguments:
        tensors: the tensors as in the files.
        format: int8 or int4.

    Raises:
        WeightError: integers without scales, or parts that contradict each other. The message lists all of them.
    """
    ending, dtype = (".weight", "I8") if format.group_size is None else (".weight_packed", "I32")
    infos, problems = dict(tensors), list[str]()
    for name, info in tensors.items():
        if not name.endswith(ending) or info.dtype != dtype:
            continue
        weight = name.removesuffix(ending) + ".weight"
        scales, shape = infos.pop(f"{weight}_scale", None), infos.pop(f"{weight}_shape", None)
        wrong = list(_problems_of_weight(tensors, info, format, weight, scales, shape))
        problems += wrong
        if not wrong:
            del infos[name]
            size = info.shape if format.group_size is None else (info.shape[0], 8 * info.shape[1])
            infos[weight] = info._replace(shape=size, format=format, scales=scales)
    if problems:
        raise WeightError("The quantized checkpoint is damaged:\n  " + "\n  ".join(problems) + "\nFetch it again.")
    return CompressedTensors(tensors.folder, infos)


def _problems_of_weight(
    tensors: Tensors,
    info: TensorInfo,
    format: Format,
    weight: str,
    scales: TensorInfo | None,
    shape: TensorInfo | None,
) -> Iterator[str]:
    if len(info.shape) != 2:
        yield f"misshapen   {weight} {list(info.shape)}, expected a matrix"
        return
    (out, size), group_size = info.shape, format.group_size
    expected, dtypes = ([out, 1], tuple(FORMATS)) if group_size is None else ([out, 8 * size // group_size], ("BF16",))
    if scales is None:
        yield f"missing     {weight}_scale {expected}"
    elif list(scales.shape) != expected:
        yield f"misshapen   {weight}_scale {list(scales.shape)}, expected {expected}"
    elif scales.dtype not in dtypes:
        yield f"dtype       {weight}_scale {scales.dtype}, expected {' or '.join(dtypes)}"
    if group_size is None:
        return
    if 8 * size % group_size:
        yield f"misshapen   {weight}_packed {list(info.shape)}, expected a multiple of {group_size // 8} columns"
    if shape is None or (shape.dtype, shape.shape) != ("I64", (2,)):
        yield f"missing     {weight}_shape, expected two I64"
    elif (said := tensors.view_bytes(shape).view(np.int64).tolist()) != [out, 8 * size]:
        yield f"differs     {weight}_shape {said} from {[out, 8 * size]} of {weight}_packed"


def to_file_tensors(name: str, tensor: StoredTensor) -> Content:
    """Return the tensors in a file for a tensor in memory: the same for floats, several for integers.

    Arguments:
        name: the checkpoint name.
        tensor: in any format; the inputs of int4 are a multiple of 32.
    """
    if tensor.scales is None:
        return {name: (tensor.format.name, tensor.array)}
    if (group_size := tensor.format.group_size) is None:
        return {name: ("int8", tensor.array), f"{name}_scale": ("float32", tensor.scales[:, None])}
    return {
        f"{name}_packed": ("int32", _from_groups(tensor.array, group_size).view(np.int32)),
        f"{name}_scale": ("bfloat16", tensor.scales),
        f"{name}_shape": ("int64", np.array(tensor.shape, np.int64)),
    }


def _to_groups(packed: NDArray[np.uint8], group_size: int) -> NDArray[np.uint8]:
    """Move neighbours of a byte half a group apart: inputs j and j + 16 of a group of 32."""
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1, 2, group_size // 2)
    array: NDArray[np.uint8] = nibbles[:, :, 0] | nibbles[:, :, 1] << 4
    return array.reshape(packed.shape)


def _from_groups(array: NDArray[np.uint8], group_size: int) -> NDArray[np.uint8]:
    """Undo `_to_groups`."""
    halves = array.reshape(len(array), -1, group_size // 2)
    nibbles = np.concatenate([halves & 15, halves >> 4], axis=-1)
    packed: NDArray[np.uint8] = nibbles[..., 0::2] | nibbles[..., 1::2] << 4
    return packed.reshape(array.shape)
