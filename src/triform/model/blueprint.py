"""Blueprint: everything known of a model before the weights are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from triform import spec
from triform.engines import StoredTensor
from triform.hub import Checkpoint
from triform.networks import Declaration
from triform.weights import Assignment, Tensors, WeightTable, read_parameter

if TYPE_CHECKING:
    from triform.weights.updates import Update


@dataclass(frozen=True, kw_only=True, eq=False)
class Blueprint:
    """Spec of a model, tensors of the checkpoint, and assignment of tensors to parameters."""

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    """Contents of config.json, with the requested head."""
    spec: spec.Model
    table: WeightTable
    """Names of the family's tensors in checkpoints and in Triform."""
    tensors: Tensors
    """Tensors of the checkpoint and of an adapter; empty for a model without weights."""
    declared: Mapping[str, Declaration]
    """Canonical name → shape and role of every parameter."""
    assignment: Assignment
    """Source of every parameter that the checkpoint brings."""
    updates: Mapping[str, Update]
    """Canonical name → change that an adapter makes to the parameter."""

    def read_parameter(self, name: str) -> StoredTensor:
        """Read a parameter from the checkpoint, with the adapter's change."""
        return read_parameter(self.tensors, self.assignment.sources[name], self.updates.get(name))

    @property
    def num_parameters(self) -> int:
        """Number of scalars in all parameters."""
        return sum(math.prod(parameter.shape) for parameter in self.declared.values())

    @property
    def new_parameters(self) -> list[str]:
        """Canonical names of the parameters without a source in the checkpoint; training initializes them."""
        return [name for name in self.declared if name not in self.assignment.sources]
