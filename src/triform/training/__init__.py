"""Training: new models, checkpoints, checkpoints with a new head. Needs torch; scores alone do not."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triform.training.api import TrainingObserver, TrainingResult, train
    from triform.training.evaluation import evaluate
    from triform.training.lora import merge_lora, save_adapter, with_lora
    from triform.training.objective import Loss, Objective, ObjectiveSettings
    from triform.training.objectives import OBJECTIVES, find_objective
    from triform.training.recipe import Recipe, read_recipe

MODULES = {
    "OBJECTIVES": "objectives",
    "Loss": "objective",
    "Objective": "objective",
    "ObjectiveSettings": "objective",
    "Recipe": "recipe",
    "TrainingObserver": "api",
    "TrainingResult": "api",
    "evaluate": "evaluation",
    "find_objective": "objectives",
    "merge_lora": "lora",
    "read_recipe": "recipe",
    "save_adapter": "lora",
    "train": "api",
    "with_lora": "lora",
}
"""Public name → its module, imported when the name is used, because most modules import torch."""

__all__ = [
    "OBJECTIVES",
    "Loss",
    "Objective",
    "ObjectiveSettings",
    "Recipe",
    "TrainingObserver",
    "TrainingResult",
    "evaluate",
    "find_objective",
    "merge_lora",
    "read_recipe",
    "save_adapter",
    "train",
    "with_lora",
]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"triform.training.{MODULES[name]}"), name)
