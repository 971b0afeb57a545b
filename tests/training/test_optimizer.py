"""Schedules and AdamW beside transformers and torch."""

import pytest
import torch
import transformers

from triform.training.optimizer import OptimizerSettings, Schedule, adamw


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 7, 0.1])
def test_schedules_are_those_of_transformers(schedule: str, warmup: float) -> None:
    settings = OptimizerSettings(learning_rate=0.5, warmup=warmup, schedule=Schedule(schedule))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    steps = int(warmup) if warmup >= 1 else round(warmup * 60)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    theirs = transformers.get_scheduler(name, optimizer, num_warmup_steps=steps, num_training_steps=60)
    for step in range(60):
        assert settings.learning_rate_at(step, 60) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_biases_and_norms_do_not_decay() -> None:
    parameters = {"a.weight": torch.nn.Parameter(torch.ones(2, 2)), "a.bias": torch.nn.Parameter(torch.ones(2))}
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    adamw(parameters, OptimizerSettings(learning_rate=0.1, weight_decay=0.5)).step()
    assert parameters["a.weight"].flatten().tolist() == pytest.approx([0.95] * 4)
    assert parameters["a.bias"].tolist() == [1, 1]
