"""The declaration of a family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from triform import spec
from triform.families.kit.config import Config
from triform.families.kit.initialization import Initialization, by_range
from triform.weights import WeightTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A recipe: config.json → spec, and the weight table."""

    model_type: str
    """The value in config.json."""
    architectures: Mapping[str, Callable[[Config], spec.Head | None]]
    """Architecture → function that reads its head. The first architecture is the backbone alone."""
    form: Callable[[Config, str], spec.Form]
    """(config, architecture) → backbone."""
    weights: Callable[[spec.Model], WeightTable]
    """Model → names of its tensors."""
    initialization: Callable[[Config, spec.Model], Initialization] = by_range
    """(config, model) → the distribution of parameters before any training."""
