"""A model to train: from a checkpoint as it is, from one with a new head, or from nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triform import families, spec
from triform.engines import Format, Parameter, ParameterRole, StoredTensor, create_engine
from triform.engines.torch import TorchEngine
from triform.engines.torch.parameter import LowRankParameter, TorchParameter
from triform.errors import InputError
from triform.families.kit.adapted import find_architecture
from triform.families.kit.config import Config
from triform.families.kit.initialization import Initialization
from triform.hub import Checkpoint
from triform.model import Model
from triform.model.blueprint import Blueprint, read_blueprint
from triform.networks import build, declare
from triform.spec import Problem
from triform.weights import Tensors, match_tensors

HEADS: Mapping[str, type[spec.Head] | None] = {
    "language-modeling": spec.LanguageHead,
    "sequence-classification": spec.SequenceHead,
    "token-classification": spec.TokenHead,
    "question-answering": spec.SpanHead,
    "none": None,
}
"""New heads by their names; without one there is the backbone alone."""

PROJECTIONS = ("classification_head.", "span_head.")
"""What makes scores of labels: never that of other labels."""


def start(
    source: str | Path,
    *,
    head: str | None = None,
    labels: Sequence[str] | None = None,
    problem: str | None = None,
    seed: int = 0,
    engine: str = "torch",
) -> Model:
    """A model with gradients, in float32.

    Arguments:
        source: a folder or a Hub id of a checkpoint; or the path of a config.json, to begin from nothing. The files of
            a tokenizer that stand beside it go with the model when it is saved.
        head: a new one, by its name in `HEADS`; without it the one that config.json names.
        labels: of a new head that classifies, in the order of the logits.
        problem: what the scores of sequences mean: single_label_classification, multi_label_classification or
            regression; by default the first.
        seed: of the numbers that what is new begins with.
        engine: torch, with a device if one is wanted.

    Raises:
        InputError: an unknown head, labels without a head that has any, or a head of labels without them.
        ModelError: the model cannot be found, is not supported, or has no such head.
        EngineError: an engine without gradients.
    """
    chosen = _torch_engine(engine)
    if Path(source).name == "config.json" and Path(source).is_file():
        checkpoint = Checkpoint(Path(source).parent, str(source))
        blueprint = _blueprint(checkpoint, chosen, Tensors(checkpoint.folder, {}), head, labels, problem)
    elif head is None:
        _check_labels(None, labels, problem)
        blueprint = read_blueprint(source, engine=chosen)
    else:
        backbone = read_blueprint(source, engine=chosen, with_head=False)
        # What stands before the backbone's names may be another with another head.
        prefix, tensors = backbone.assignment.prefix, backbone.tensors
        tensors = tensors.replace_infos({name.removeprefix(prefix): info for name, info in tensors.items()})
        blueprint = _blueprint(backbone.checkpoint, chosen, tensors, head, labels, problem)
    return _model(blueprint, chosen, seed)


def trainable(model: Model) -> dict[str, torch.nn.Parameter]:
    """Canonical name → what an optimiser changes; a tensor that is used twice stands there once."""
    found: dict[str, torch.nn.Parameter] = {}
    for name, parameter in model.parameters.items():
        assert isinstance(parameter, TorchParameter)
        if isinstance(parameter, LowRankParameter):
            found |= {f"{name}.lora_A": parameter.a, f"{name}.lora_B": parameter.b}
        elif parameter.tensor.requires_grad:
            found[name] = parameter.tensor
    return found


def new_parameters(model: Model) -> list[str]:
    """The canonical names of what no checkpoint has brought."""
    return [name for name in model.parameters if name not in model.blueprint.assignment.sources]


def _torch_engine(name: str) -> TorchEngine:
    engine = create_engine(name)
    if not isinstance(engine, TorchEngine):
        raise InputError(f"engine={name!r} has no gradients. Train with engine='torch', or 'torch:DEVICE'.")
    return engine


def _blueprint(
    checkpoint: Checkpoint,
    engine: TorchEngine,
    tensors: Tensors,
    head: str | None,
    labels: Sequence[str] | None,
    problem: str | None,
) -> Blueprint:
    """That of a model of which the checkpoint brings a part, or nothing."""
    where = str(checkpoint.folder / "config.json")
    config = _config(checkpoint.read_object("config.json"), where, head, labels, problem)
    resolved = families.read_spec(config, where)
    if not tensors:
        resolved = _untied(resolved, config)
    table = families.find_family(config, where).weights(resolved)
    declared = declare(resolved, engine)
    backbone = declare(replace(resolved, head=None), engine)
    found = {
        canonical: source.part_shape(tensors[name].shape)
        for name in tensors
        for canonical, source in table.to_canonical(name)
        if not canonical.startswith(PROJECTIONS)
    }
    known = {
        name: parameter.shape
        for name, parameter in declared.items()
        if tensors and (name in backbone or found.get(name) == parameter.shape)
    }
    # Other heads of the checkpoint would not go with a backbone that has been trained on.
    assignment = replace(match_tensors(known, table, tensors), unused=(), prefix=table.prefix if resolved.head else "")
    return Blueprint(
        checkpoint=checkpoint,
        config=config,
        spec=resolved,
        table=table,
        tensors=tensors,
        declared=declared,
        assignment=assignment,
        updates={},
    )


def _config(
    config: Mapping[str, Any], where: str, head: str | None, labels: Sequence[str] | None, problem: str | None
) -> dict[str, Any]:
    """The contents of config.json, with the head that is asked for."""
    changed = {**config}
    if head is not None:
        if head not in HEADS:
            raise InputError(f"head={head!r}: expected one of {', '.join(HEADS)}.")
        kind = HEADS[head]
        backbone = next(iter(families.find_family(config, where).architectures))
        changed["architectures"] = [backbone if kind is None else find_architecture(config, where, kind)]
        if kind in (spec.SequenceHead, spec.TokenHead) and labels is None and problem != Problem.REGRESSION:
            raise InputError(f"labels are missing: head={head!r} needs their names, in the order of the logits.")
    _check_labels(head, labels, problem)
    if labels is not None or problem == Problem.REGRESSION:
        names = labels or ["LABEL_0"]
        changed.pop("num_labels", None)
        changed["id2label"] = {str(number): label for number, label in enumerate(names)}
        changed["label2id"] = {label: number for number, label in enumerate(names)}
    if head == "sequence-classification" or problem is not None:
        changed["problem_type"] = problem or Problem.SINGLE_LABEL.value
    return changed


def _check_labels(head: str | None, labels: Sequence[str] | None, problem: str | None) -> None:
    if (labels is not None or problem is not None) and HEADS.get(str(head)) not in (spec.SequenceHead, spec.TokenHead):
        raise InputError(
            f"labels and problem are for a new head that classifies, not for head={head!r}. "
            "Ask for sequence-classification or token-classification."
        )
    if labels is not None and (not labels or len(set(labels)) < len(labels)):
        raise InputError(f"labels={list(labels)!r:.300}: expected one or more, none of them twice.")
    if problem is not None and problem not in set(Problem):
        raise InputError(f"problem={problem!r}: expected one of {', '.join(Problem)}.")


def _untied(model: spec.Model, config: Mapping[str, Any]) -> spec.Model:
    """With a language head of its own where the config says so, though the family finds that in checkpoints alone."""
    if isinstance(model.head, spec.LanguageHead) and config.get("tie_word_embeddings") is False:
        return replace(model, head=replace(model.head, tied=False))
    return model


def _model(blueprint: Blueprint, engine: TorchEngine, seed: int) -> Model:
    reader = Config(blueprint.config, str(blueprint.checkpoint.folder / "config.json"))
    family = families.find_family(blueprint.config, reader.where)
    initialization = family.initialization(reader, blueprint.spec)
    generator = torch.Generator().manual_seed(seed)
    parameters: dict[str, Parameter] = {}

    def parameter(name: str, shape: tuple[int, ...], role: ParameterRole) -> Parameter:
        if name not in parameters:
            is_known = name in blueprint.assignment.sources
            stored = blueprint.read_parameter(name) if is_known else _initial(name, shape, initialization, generator)
            prepared = engine.prepare(name, stored, Format.FLOAT32, blueprint.declared[name].role)
            prepared.tensor.requires_grad_(name not in blueprint.table.fixed)
            parameters[name] = replace(prepared, padding=initialization.padding.get(name))
        return parameters[name]

    network = build(blueprint.spec, engine, parameter)
    blueprint.tensors.unmap()  # the engine has copies
    return Model(blueprint, engine, network, parameters)


def _initial(
    name: str, shape: tuple[int, ...], initialization: Initialization, generator: torch.Generator
) -> StoredTensor:
    if len(shape) == 1:
        return StoredTensor(np.full(shape, float(name.endswith("norm.weight")), np.float32), Format.FLOAT32)
    deviation = next(own for pattern, own in initialization.deviations.items() if fnmatchcase(name, pattern))
    values = torch.empty(shape).normal_(0, deviation, generator=generator)
    if name in initialization.padding:
        values[initialization.padding[name]] = 0
    return StoredTensor(values.numpy(), Format.FLOAT32)
