"""Export: a model → a checkpoint in the Hugging Face layout, with config and small files."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from triform.engines import Format, ParameterRole, StoredTensor, convert
from triform.errors import InputError, UnsupportedModelError
from triform.hub import ADAPTER, MODEL, SENTENCE_FILES, SENTENCE_MODULES, SETTINGS_FILES, TOKENIZER, Checkpoint
from triform.model.blueprint import Blueprint
from triform.model.tied_head import LANGUAGE_HEAD
from triform.replacing import replacing_files, write_json
from triform.weights import (
    QUANTIZATION_KEY,
    TensorSlice,
    check_output,
    copy_small_files,
    join_slices,
    naming_parameter,
    quantization_config,
    write_tensors,
)


def quantize_checkpoint(
    blueprint: Blueprint, format: Format, folder: Path, *, before_tensor: Callable[[str], None] = lambda name: None
) -> None:
    """Write a checkpoint with the weights of linears in integers, quantized tensor by tensor.

    Arguments:
        blueprint: blueprint of the model.
        format: int8 or int4.
        folder: folder to write to.
        before_tensor: called with the canonical name of each parameter before it is read.

    Raises:
        InputError: the folder cannot be made, lies inside of the model's, or holds an adapter.
        OutputError: the files cannot be written.
        UnsupportedModelError: the layout has no integers for this model.
        WeightError: a weight holds NaN or infinity.
    """
    _check_target(blueprint, folder)  # before anything is read
    _check_layout(blueprint, format)
    parameters = {}
    for name in blueprint.declared:
        before_tensor(name)
        with naming_parameter(name):
            stored = blueprint.read_parameter(name)
            parameters[name] = convert(stored, format) if _is_quantized(blueprint, name) else stored
    save_checkpoint(blueprint, parameters, folder)


def save_checkpoint(blueprint: Blueprint, parameters: Mapping[str, StoredTensor], folder: Path) -> None:
    """Write a checkpoint.

    Integers may be the weights of all linears but the language head. The language head is written as the checkpoint
    had it, because readers of the layout expect floats there, and because the head may be tied to an embedding.

    Arguments:
        blueprint: blueprint of the model; tensors of its checkpoint that the model does not use are copied.
        parameters: canonical name → numbers that the engine holds.
        folder: folder to write to; it may be the one that the model was loaded from. A checkpoint there is replaced as
            a whole; other files stay.

    Raises:
        InputError: the folder cannot be made, lies inside of the model's, or holds an adapter.
        OutputError: the files cannot be written; the checkpoint that was there is then unchanged.
        UnsupportedModelError: the layout has no integers for this model.
    """
    source = blueprint.checkpoint.folder
    _check_target(blueprint, folder)
    if blueprint.checkpoint.whole is not None:
        raise UnsupportedModelError(
            f"{blueprint.checkpoint.folder} is one module of {blueprint.checkpoint.whole}; saved without the others it "
            "would give other vectors. Load the folder of the module by triform.load, and save that model."
        )
    kept = {name: _kept(blueprint, name, stored) for name, stored in parameters.items()}
    format = next((stored.format for stored in kept.values() if stored.format.is_integer), None)
    if format is not None:
        _check_layout(blueprint, format)
    tensors = _tensors(blueprint, kept, format)
    config = _config(blueprint, tensors, format)
    is_own = source.resolve() == folder.resolve() and blueprint.checkpoint.adapter is None
    stale = MODEL.all_weights if is_own else (*MODEL.all_weights, *TOKENIZER, *SETTINGS_FILES)
    with replacing_files(folder, stale=stale) as new:
        write_tensors(new, tensors)
        if not is_own:
            _copy_small_files(blueprint.checkpoint, new)
        write_json(new / "config.json", config)


def _check_target(blueprint: Blueprint, folder: Path) -> None:
    """Refuse a folder inside of the model's, and a folder with an adapter, which the next load would merge again.

    Raises:
        InputError: naming the folder.
    """
    check_output(blueprint.checkpoint.folder, folder)
    if (folder / ADAPTER.config).exists():
        raise InputError(f"{folder} holds an adapter, which would be merged into the saved model. Name another folder.")


def _copy_small_files(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy the small files of a model, and of an adapter the groups of files that count in place of the model's."""
    groups = ((TOKENIZER, TOKENIZER), (SENTENCE_MODULES, SENTENCE_FILES))
    patterns = [each for gate, group in groups if checkpoint.having(gate) is not checkpoint for each in group]

    def is_of_adapter(path: Path) -> bool:
        return any(path.match(pattern) for pattern in patterns)

    copy_small_files(
        checkpoint.folder, folder, fits=lambda path: not is_of_adapter(path) and path.name != ADAPTER.config
    )
    if checkpoint.adapter is not None:
        copy_small_files(checkpoint.adapter.folder, folder, fits=is_of_adapter)


def _check_layout(blueprint: Blueprint, format: Format) -> None:
    for name, source in blueprint.assignment.sources.items():
        if not _is_quantized(blueprint, name):
            continue
        shape = blueprint.declared[name].shape
        in_features = shape[1]
        if source != source.of_output_channels() or len(source.whole_shape(shape)) != 2:
            reason = f"{source} is not stored (out, in)"
        elif format.group_size is not None and in_features % format.group_size:
            reason = f"{source.tensor} has {in_features} inputs, not a multiple of {format.group_size}"
        else:
            continue
        raise UnsupportedModelError(
            f"{blueprint.checkpoint.source} cannot be written in {format}: {reason}, as the layout of quantized "
            f"checkpoints requires. Keep it in floats, and load it with dtype={format.name!r}."
        )


def _is_quantized(blueprint: Blueprint, name: str) -> bool:
    return blueprint.declared[name].role is ParameterRole.LINEAR and name != LANGUAGE_HEAD


def _kept(blueprint: Blueprint, name: str, stored: StoredTensor) -> StoredTensor:
    if not stored.format.is_integer or _is_quantized(blueprint, name):
        return stored
    original = blueprint.read_parameter(name)
    return stored if original.format.is_integer else original


def _tensors(
    blueprint: Blueprint, parameters: Mapping[str, StoredTensor], format: Format | None
) -> dict[str, StoredTensor]:
    parts: dict[str, dict[TensorSlice, StoredTensor]] = {}
    for name, stored in parameters.items():
        target = blueprint.table.to_checkpoint(name, prefix=blueprint.assignment.prefix)
        parts.setdefault(target.tensor, {})[target] = stored
    tensors = {name: _join(own) for name, own in parts.items()}
    for name in blueprint.assignment.unused:
        if blueprint.tensors[name].format is not None:
            stored = blueprint.tensors.read(name)
            is_other = stored.format.is_integer and stored.format != format
            tensors[name] = convert(stored, Format.FLOAT32) if is_other else stored
    return tensors


def _join(parts: Mapping[TensorSlice, StoredTensor]) -> StoredTensor:
    """Return the checkpoint tensor of which `parts` are all slices."""
    first = next(iter(parts.values()))
    array = join_slices({target: stored.array for target, stored in parts.items()})
    if first.scales is None:
        return replace(first, array=array)
    scales = {target: stored.scales for target, stored in parts.items() if stored.scales is not None}
    return replace(first, array=array, scales=join_slices(scales))


def _config(blueprint: Blueprint, tensors: Mapping[str, StoredTensor], format: Format | None) -> dict[str, Any]:
    config = {key: value for key, value in blueprint.config.items() if key != QUANTIZATION_KEY}
    floats = {tensor.format for tensor in tensors.values() if not tensor.format.is_integer}
    if blueprint.updates and len(floats) > 1:
        floats = {Format.FLOAT32}  # else the reader would round the changed weights
    if len(floats) == 1:
        # transformers loads in the dtype of the config, for any dtype in the file.
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = floats.pop().name
    if format is not None:
        config[QUANTIZATION_KEY] = quantization_config(format, _modules_in_floats(blueprint, tensors))
    return config


def _modules_in_floats(blueprint: Blueprint, tensors: Mapping[str, StoredTensor]) -> set[str]:
    """Collect the names of the linears in floats, unused linears included."""
    table, prefix = blueprint.table, blueprint.assignment.prefix
    linears = [name for name, declared in blueprint.declared.items() if declared.role is ParameterRole.LINEAR]
    names = {table.to_checkpoint(name, prefix=prefix).tensor for name in linears}
    # The language head, whether this model has one and whether the file does: it may be tied.
    names |= {piece.tensor for rule in table.heads if (piece := rule.to_checkpoint(LANGUAGE_HEAD)) is not None}
    names |= {name for name in blueprint.assignment.unused if len(blueprint.tensors[name].shape) == 2}
    in_floats = {name for name in names if name not in tensors or not tensors[name].format.is_integer}
    return {name.removesuffix(".weight") for name in in_floats}
