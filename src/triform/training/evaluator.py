"""Evaluator: loss and scores of a model on validation rows, during training."""

from functools import cached_property
from typing import Any

import numpy as np

from triform.data import Files
from triform.errors import InputError
from triform.model import Model
from triform.tasks import Task
from triform.training.batches import make_micro_batches
from triform.training.evaluation import evaluate
from triform.training.metrics import Scores
from triform.training.objective import Objective


class Evaluator:
    """Evaluator of a model on validation rows.

    Arguments:
        model: the model, as it is at each call.
        objective: gives the loss.
        task: the task whose answers are scored; None for the loss alone.
        rows: validation rows, read at every call.
        token_budget: most tokens that go through the model at once.
    """

    def __init__(
        self, model: Model, objective: Objective[Any], task: Task[Any, Any] | None, rows: Files, token_budget: int
    ) -> None:
        self._model, self._objective, self._task, self._rows = model, objective, task, rows
        self._token_budget = token_budget

    def __call__(self) -> Scores:
        """Compute the mean loss, scores of the loss, and scores of the task's answers."""
        loss = self._loss()
        of_loss = {name: score(loss) for name, score in self._objective.loss_scores.items()}
        of_answers = {} if self._task is None else evaluate(self._task, self._rows)
        return {"loss": loss, **of_loss, **of_answers}

    def check(self) -> None:
        """Read the validation rows.

        Raises:
            InputError: a row has no example, or there are no rows.
        """
        if not self._micro_batches:
            raise InputError("There is nothing to validate on: the files hold no row.")

    def _loss(self) -> float:
        """Compute the mean loss over all targets; random masks are the same in every evaluation."""
        total, num_targets = 0.0, 0
        rng = np.random.default_rng(0)
        with self._model.engine.inference():
            for examples in self._micro_batches:
                loss = self._objective.loss(self._model, examples, rng)
                total, num_targets = total + loss.total.item(), num_targets + loss.num_targets
        return total / max(num_targets, 1)

    @cached_property
    def _micro_batches(self) -> list[list[Any]]:
        examples = [example for row in self._rows for example in self._objective.examples(row)]
        return make_micro_batches(examples, self._objective.num_tokens, self._token_budget)
