"""Trainable parameters: float32 tensors with gradients, loaded from a checkpoint or initialized. Needs torch."""

from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import torch

from triform import families
from triform.engines import Engine, Format, Parameter, ParameterRole, StoredTensor
from triform.engines.torch import TorchEngine
from triform.engines.torch.parameter import LowRankParameter, TorchParameter
from triform.errors import InputError
from triform.families.kit.config import Config
from triform.model.blueprint import Blueprint
from triform.model.model import Model


def with_gradients(engine: Engine, name: str) -> TorchEngine:
    """Return the engine if the engine computes gradients.

    Raises:
        InputError: the engine has no gradients.
    """
    if not isinstance(engine, TorchEngine):
        raise InputError(f"engine={name!r} has no gradients. Train with engine='torch', or 'torch:DEVICE'.")
    return engine


class TrainableParameters:
    """Parameters of a blueprint by canonical name, made when the network first asks for them.

    Initial values are drawn in the order in which the network asks, so equal seeds give equal models.

    Arguments:
        blueprint: blueprint of the model; parameters without a source in its assignment are initialized.
        engine: engine to hold the parameters.
        seed: seed of the initial values.
    """

    def __init__(self, blueprint: Blueprint, engine: TorchEngine, seed: int) -> None:
        self.parameters: dict[str, Parameter] = {}
        self._blueprint, self._engine = blueprint, engine
        reader = Config(blueprint.config, str(blueprint.checkpoint.folder / "config.json"))
        family = families.find_family(blueprint.config, reader.where)
        self._initialization = family.initialization(reader, blueprint.spec)
        self._rng = torch.Generator().manual_seed(seed)

    def __call__(self, name: str, shape: tuple[int, ...], role: ParameterRole) -> Parameter:
        if name not in self.parameters:
            blueprint = self._blueprint
            is_known = name in blueprint.assignment.sources
            stored = blueprint.read_parameter(name) if is_known else self._initial(name, shape)
            prepared = self._engine.prepare(name, stored, Format.FLOAT32, blueprint.declared[name].role)
            prepared.tensor.requires_grad_(name not in blueprint.table.fixed)
            self.parameters[name] = replace(prepared, padding=self._initialization.padding.get(name))
        return self.parameters[name]

    def _initial(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        """Initial values: norms 1, biases 0, weights from a normal distribution around 0."""
        if len(shape) == 1:
            return StoredTensor(np.full(shape, float(name.endswith("norm.weight")), np.float32), Format.FLOAT32)
        deviations = self._initialization.deviations.items()
        deviation = next(own for pattern, own in deviations if fnmatchcase(name, pattern))
        values = torch.empty(shape).normal_(0, deviation, generator=self._rng)
        if name in self._initialization.padding:
            values[self._initialization.padding[name]] = 0
        return StoredTensor(values.numpy(), Format.FLOAT32)


def trainable_parameters(model: Model) -> dict[str, torch.nn.Parameter]:
    """Collect the trainable tensors by canonical name; a shared tensor comes once."""
    found: dict[str, torch.nn.Parameter] = {}
    for name, parameter in model.parameters.items():
        assert isinstance(parameter, TorchParameter)
        if isinstance(parameter, LowRankParameter):
            found |= {f"{name}.lora_A": parameter.a, f"{name}.lora_B": parameter.b}
        elif parameter.tensor.requires_grad:
            found[name] = parameter.tensor
    return found
