"""What a family tells of itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from triform import spec
from triform.families.kit.config import Config
from triform.families.kit.initialization import Initialization, by_range
from triform.weights import WeightTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A recipe: how to read a config.json, and what the tensors are called."""

    model_type: str
    """As config.json has it."""
    architectures: Mapping[str, Callable[[Config], spec.Head | None]]
    """Names that `architectures` may hold, the backbone alone first → how to read the head."""
    form: Callable[[Config, str], spec.Form]
    """(config, architecture) → the backbone."""
    weights: Callable[[spec.Model], WeightTable]
    """The names of the tensors of a model."""
    initialization: Callable[[Config, spec.Model], Initialization] = by_range
    """What parameters are before any training."""
