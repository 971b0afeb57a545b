"""AdamW with the usual settings, and learning rate schedules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch

from triform.training.settings import check_positive


class Schedule(StrEnum):
    """Course of the learning rate after the warmup."""

    LINEAR = "linear"
    """Falls to 0 linearly."""
    COSINE = "cosine"
    """Falls to 0 along half a cosine wave."""
    CONSTANT = "constant"


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerSettings:
    """AdamW (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization")."""

    learning_rate: float = 5e-5
    """Highest learning rate, at the end of the warmup."""
    weight_decay: float = 0.01
    """Weight decay of matrices and embeddings; biases and norms have none."""
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    warmup: float = 0.0
    """Steps over which the learning rate rises from 0; a number below 1 is a share of all steps."""
    schedule: Schedule = Schedule.LINEAR
    max_gradient_norm: float = 1.0
    """Longest gradient; a longer one is scaled to this length (gradient clipping), 0 for never."""

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "epsilon")

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Compute the learning rate of a step, counted from 0, as transformers' schedules do."""
        warmup = self.warmup if self.warmup >= 1 else math.ceil(self.warmup * num_steps)
        if step < warmup:
            return self.learning_rate * step / warmup
        progress = (step - warmup) / max(1, num_steps - warmup)
        match self.schedule:
            case Schedule.LINEAR:
                return self.learning_rate * max(0.0, 1 - progress)
            case Schedule.COSINE:
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
            case Schedule.CONSTANT:
                return self.learning_rate


def adamw(parameters: Mapping[str, torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.AdamW:
    """Make the optimizer of some parameters; vectors are biases and norms, without weight decay."""
    matrices = [parameter for parameter in parameters.values() if parameter.dim() > 1]
    vectors = [parameter for parameter in parameters.values() if parameter.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )
