"""A model → the tensors and the config of a checkpoint in the Hugging Face layout."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from triform import spec
from triform.blueprint import Blueprint
from triform.engines import Format, StoredTensor, Use
from triform.engines.reference.parameter import convert
from triform.errors import UnsupportedModelError
from triform.weights import KEY, Piece, join, quantization_config

HEAD = "language_head.weight"


def export(
    blueprint: Blueprint, parameters: Mapping[str, StoredTensor]
) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    """What a checkpoint holds: its tensors, and config.json.

    In integers are the weights of all linears but the language head, which is written as the checkpoint had it, since
    that is what readers of the layout expect, and since it may be tied to a table.

    Arguments:
        blueprint: what the model was made from; tensors that it does not use are taken over.
        parameters: canonical name → what an engine holds.

    Raises:
        UnsupportedModelError: integers in a tensor that is stored (in, out), which the layout does not have.
    """
    kept = {name: _kept(blueprint, name, stored) for name, stored in parameters.items()}
    format = next((stored.format for stored in kept.values() if stored.format.is_integer), None)
    pieces: dict[str, dict[Piece, StoredTensor]] = {}
    for name, stored in kept.items():
        piece = blueprint.table.to_checkpoint(name, prefix=blueprint.assignment.prefix)
        pieces.setdefault(piece.tensor, {})[piece] = stored
    tensors = {name: _joined(name, own) for name, own in pieces.items()}
    for name in blueprint.assignment.unused:
        if blueprint.tensors[name].format is not None:
            stored = blueprint.tensors.read(name)
            is_other = stored.format.is_integer and stored.format is not format
            tensors[name] = convert(stored, Format.FLOAT32) if is_other else stored
    return tensors, _config(blueprint, tensors, format)


def _kept(blueprint: Blueprint, name: str, stored: StoredTensor) -> StoredTensor:
    if not stored.format.is_integer or (blueprint.declared[name].use is Use.LINEAR and name != HEAD):
        return stored
    original = blueprint.read(name)
    return stored if original.format.is_integer else original


def _joined(name: str, pieces: Mapping[Piece, StoredTensor]) -> StoredTensor:
    first = next(iter(pieces.values()))
    if first.format.is_integer and any(piece.transposed for piece in pieces):
        raise UnsupportedModelError(
            f"{name} is stored (in, out), which a quantized checkpoint cannot hold. Keep the model in floats, and load "
            f"it with dtype={first.format.value!r}."
        )
    array = join({piece: stored.array for piece, stored in pieces.items()})
    if first.scales is None:
        return replace(first, array=array)
    scales = {piece: stored.scales for piece, stored in pieces.items() if stored.scales is not None}
    return replace(first, array=array, scales=join(scales))


def _config(blueprint: Blueprint, tensors: Mapping[str, StoredTensor], format: Format | None) -> dict[str, Any]:
    config = {key: value for key, value in blueprint.config.items() if key != KEY}
    floats = {tensor.format for tensor in tensors.values() if not tensor.format.is_integer}
    if blueprint.updates and len(floats) > 1:
        floats = {Format.FLOAT32}  # else what the adapter changed would be rounded when it is read
    if len(floats) == 1:
        # transformers loads in the dtype that the config names, whatever the file holds.
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = floats.pop().value
    if format is not None:
        config[KEY] = quantization_config(format, _modules_in_floats(blueprint, tensors))
    return config


def _modules_in_floats(blueprint: Blueprint, tensors: Mapping[str, StoredTensor]) -> set[str]:
    """The linears that are not quantized, those among them that this model does not use."""
    table, prefix = blueprint.table, blueprint.assignment.prefix
    linears = [name for name, declared in blueprint.declared.items() if declared.use is Use.LINEAR]
    if isinstance(blueprint.spec.head, spec.LanguageHead):
        linears.append(HEAD)  # in the file or not: it may be tied
    names = {table.to_checkpoint(name, prefix=prefix).tensor for name in linears}
    names |= {name for name in blueprint.assignment.unused if len(blueprint.tensors[name].shape) == 2}
    in_floats = {name for name in names if name not in tensors or not tensors[name].format.is_integer}
    return {name.removesuffix(".weight") for name in in_floats}
