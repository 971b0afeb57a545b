"""LoRA, low-rank adaptation: a low-rank change of some linears is trained, and the model's weights stay as they are.

Hu et al. 2021, arXiv:2106.09685. The result is written in PEFT's layout, which `load(…, adapter=…)` reads.
"""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triform import spec
from triform.engines import Format, Parameter, ParameterRole, StoredTensor
from triform.engines.torch.parameter import LowRankParameter, TorchParameter
from triform.errors import InputError
from triform.families.kit.adapted import HEADS as HEADS_OF_TASKS
from triform.families.kit.adapted import LABELS
from triform.hub import ADAPTER
from triform.model import Model
from triform.networks import build
from triform.replacing import replacing_files, write_json
from triform.weights import TensorSlice, join_slices, write_tensors
from triform.weights.adapter import PREFIX

WEIGHT = ".weight"


def with_lora(
    model: Model,
    *,
    targets: Sequence[str] = ("*.attention.query", "*.attention.value"),
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    trained: Sequence[str] = (),
    seed: int = 0,
) -> Model:
    """Add a trainable low-rank change to some linears: W + alpha/rank · B·A.

    New parameters, such as a new head, and the parameters that `trained` names are trained whole. All others keep the
    values of the given model and lose their gradients. Heads that classify or find spans cannot be targets.

    Arguments:
        model: a model of `load_for_training`.
        targets: patterns of the canonical names of linears, `*` for anything: "blocks.3.attention.key", "*.up".
        rank: rank of A and B.
        alpha: scale of the change, relative to its rank.
        dropout: dropout of the input of A.
        trained: patterns of the canonical names of parameters that are trained whole.
        seed: seed of the initial values of A; B begins as 0.

    Raises:
        InputError: a pattern that fits nothing, or an impossible rank, alpha or dropout.
    """
    if rank < 1 or not alpha > 0 or not 0 <= dropout < 1:
        raise InputError(
            f"rank={rank}, alpha={alpha}, dropout={dropout}: expected a rank of at least 1, an alpha above 0, and a "
            "dropout of at least 0 and less than 1."
        )
    linears = {
        name.removesuffix(WEIGHT): name
        for name, own in model.blueprint.declared.items()
        if own.role is ParameterRole.LINEAR and not _is_of_a_small_head(model, name)
    }
    changed = {linears[name] for name in _matching(targets, linears, "targets", "linear")}
    _check_matrices(model, changed)
    whole = {*_matching(trained, model.parameters, "trained", "parameter"), *model.blueprint.new_parameters}
    generator = torch.Generator().manual_seed(seed)
    parameters: dict[str, Parameter] = {}
    for name, parameter in model.parameters.items():
        assert isinstance(parameter, TorchParameter)
        parameter.tensor.requires_grad_(name in whole)
        if name in changed - whole:
            parameters[name] = _adapted(parameter, rank, alpha / rank, dropout, generator)
        else:
            parameters[name] = parameter
    network = build(model.spec, model.engine, lambda name, shape, role: parameters[name])
    return Model(model.blueprint, model.engine, network, parameters)


def merge_lora(model: Model) -> Model:
    """Add each low-rank change to the weight; `Model.save` writes the same weights."""
    parameters: dict[str, Parameter] = {}
    for name, parameter in model.parameters.items():
        if isinstance(parameter, LowRankParameter):
            tensor = torch.nn.Parameter(parameter.float32().detach())
            parameters[name] = TorchParameter(tensor, Format.FLOAT32)
        else:
            parameters[name] = parameter
    network = build(model.spec, model.engine, lambda name, shape, role: parameters[name])
    return Model(model.blueprint, model.engine, network, parameters)


def save_adapter(model: Model, folder: str | Path) -> None:
    """Write the trained parameters of a model `with_lora` as an adapter in PEFT's layout.

    Changes of parts of a fused weight become one change of the whole weight; its rank is the sum of theirs.

    Raises:
        InputError: the model has no low-rank change, or the folder cannot be made.
        OutputError: the files cannot be written.
    """
    folder = Path(folder)
    modules = _modules(model)
    if not modules:
        raise InputError("The model has no low-rank change to save. Make it by with_lora, or save it by model.save.")
    whole = _whole(model)
    with replacing_files(folder, stale=ADAPTER.all_weights) as new:
        write_tensors(new, {**_low_rank_tensors(modules), **_whole_tensors(model, whole)}, files=ADAPTER)
        write_json(new / ADAPTER.config, _config(model, modules, whole))
        if isinstance(model.spec.head, spec.SequenceHead | spec.TokenHead):
            # The config of an adapter has no labels.
            write_json(new / "config.json", {k: v for k, v in model.blueprint.config.items() if k in LABELS})


def _matching(patterns: Sequence[str], names: Mapping[str, Any], argument: str, kind: str) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        own = {name for name in names if fnmatchcase(name, pattern)}
        if not own:
            raise InputError(
                f"{argument}: {pattern!r} fits no {kind} of the model. A name is, for example, {next(iter(names))!r}; "
                "`triform describe` lists all."
            )
        found |= own
    return found


def _check_matrices(model: Model, names: set[str]) -> None:
    """Refuse linears that the checkpoint stores with more than two axes, since PEFT has matrices A and B only."""
    for name in sorted(names):
        target = model.blueprint.table.to_checkpoint(name, prefix=model.blueprint.assignment.prefix)
        if len(target.whole_shape(model.blueprint.declared[name].shape)) != 2:
            raise InputError(f"targets: {name} is stored as {target}, not as a matrix. Leave it out of targets.")


def _is_of_a_small_head(model: Model, name: str) -> bool:
    table = model.blueprint.table
    is_of_head = table.belongs_to_head(table.to_checkpoint(name, prefix=model.blueprint.assignment.prefix).tensor)
    return is_of_head and not isinstance(model.spec.head, spec.LanguageHead)


def _adapted(
    parameter: TorchParameter, rank: int, scale: float, dropout: float, generator: torch.Generator
) -> LowRankParameter:
    out_features, in_features = parameter.shape
    bound = in_features**-0.5
    a = torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator)
    device = parameter.tensor.device
    return LowRankParameter(
        parameter.tensor,
        parameter.format,
        a=torch.nn.Parameter(a.to(device)),
        b=torch.nn.Parameter(torch.zeros(out_features, rank, device=device)),
        scale=scale,
        dropout=dropout,
    )


def _modules(model: Model) -> dict[str, dict[TensorSlice, LowRankParameter]]:
    """Collect the changed parts of each module of the checkpoint."""
    modules: dict[str, dict[TensorSlice, LowRankParameter]] = {}
    for name, parameter in model.parameters.items():
        if isinstance(parameter, LowRankParameter):
            target = model.blueprint.table.to_checkpoint(name, prefix=model.blueprint.assignment.prefix)
            modules.setdefault(target.tensor.removesuffix(WEIGHT), {})[target] = parameter
    return modules


def _low_rank_tensors(modules: Mapping[str, Mapping[TensorSlice, LowRankParameter]]) -> dict[str, StoredTensor]:
    tensors = {}
    for module, parts in modules.items():
        a = np.concatenate([_array(part.a) for part in parts.values()])
        target, part = next(iter(parts.items()))
        b = np.zeros((*target.of_output_channels().whole_shape(part.shape[:1]), len(a)), np.float32)
        column = 0
        for target, part in parts.items():
            own = _array(part.b)
            rows = target.of_output_channels().cut(np.arange(len(b)))
            b[rows, column : column + own.shape[1]] = own
            column += own.shape[1]
        tensors[f"{PREFIX}{module}.lora_A{WEIGHT}"] = StoredTensor(a, Format.FLOAT32)
        tensors[f"{PREFIX}{module}.lora_B{WEIGHT}"] = StoredTensor(b, Format.FLOAT32)
    return tensors


def _array(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    array: np.ndarray[Any, np.dtype[np.float32]] = tensor.detach().cpu().numpy()
    return array


def _whole(model: Model) -> dict[str, list[str]]:
    """Collect the modules of the checkpoint to save whole, with the canonical names of their parameters.

    PEFT knows a head by the first part of its names, and saves the whole module, trained or not.
    """
    table, prefix = model.blueprint.table, model.blueprint.assignment.prefix
    tensors = {name: table.to_checkpoint(name, prefix=prefix).tensor for name in model.parameters}
    modules = set()
    for name, parameter in model.parameters.items():
        assert isinstance(parameter, TorchParameter)
        if parameter.tensor.requires_grad or _is_of_a_small_head(model, name):
            is_of_head = table.belongs_to_head(tensors[name])
            modules.add(tensors[name].split(".")[0] if is_of_head else tensors[name].rpartition(".")[0])
    return {
        module: [name for name, tensor in tensors.items() if tensor.startswith(f"{module}.")]
        for module in sorted(modules)
    }


def _whole_tensors(model: Model, whole: Mapping[str, Sequence[str]]) -> dict[str, StoredTensor]:
    table, prefix = model.blueprint.table, model.blueprint.assignment.prefix
    parts: dict[str, dict[TensorSlice, StoredTensor]] = {}
    for name in (name for names in whole.values() for name in names):
        target = table.to_checkpoint(name, prefix=prefix)
        parts.setdefault(PREFIX + target.tensor, {})[target] = model.engine.stored(model.parameters[name])
    return {
        tensor: StoredTensor(join_slices({target: stored.array for target, stored in own.items()}), Format.FLOAT32)
        for tensor, own in parts.items()
    }


def _config(
    model: Model, modules: Mapping[str, Mapping[TensorSlice, LowRankParameter]], whole: Mapping[str, Any]
) -> dict[str, Any]:
    first = next(iter(next(iter(modules.values())).values()))
    rank = len(first.a)
    ranks = {module: sum(len(part.a) for part in parts.values()) for module, parts in modules.items()}
    others = {module: own for module, own in ranks.items() if own != rank}
    return {
        "peft_type": "LORA",
        "task_type": _task(model.spec),
        "base_model_name_or_path": model.checkpoint.source,
        "r": rank,
        "lora_alpha": _plain(first.scale * rank),
        "lora_dropout": first.dropout,
        "target_modules": list(modules),
        "rank_pattern": others,
        "alpha_pattern": {module: _plain(first.scale * own) for module, own in others.items()},
        "modules_to_save": list(whole) or None,
        "bias": "none",
        "fan_in_fan_out": any(target != target.of_output_channels() for parts in modules.values() for target in parts),
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _plain(number: float) -> float | int:
    """Convert a whole number to an int, as PEFT writes it."""
    return round(number) if math.isclose(number, round(number)) else number


def _task(model: spec.Model) -> str | None:
    """Find PEFT's name for the head's task."""
    if isinstance(model.head, spec.LanguageHead):
        return {spec.Decoder: "CAUSAL_LM", spec.EncoderDecoder: "SEQ_2_SEQ_LM"}.get(type(model.form))
    return next((task for task, head in HEADS_OF_TASKS.items() if isinstance(model.head, head)), None)
