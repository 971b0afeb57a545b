"""Training loop: examples → loss → gradients → parameters, with evaluations and checkpoints on the way.

All random choices of a step (order of the examples, masks, dropout) follow from the seed and the number of the step. A
run that is killed at any moment is resumed from its last checkpoint with the same results, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import numpy as np
import torch

from triform.engines import FORMATS
from triform.errors import InputError, NonFiniteError
from triform.model import Model
from triform.model.trainable import trainable_parameters
from triform.training.batches import Batches
from triform.training.checkpoint import State, load_last_checkpoint, remove_checkpoints, save_checkpoint
from triform.training.log import Log, Record, draw_curve, read_log
from triform.training.metrics import Scores, is_better
from triform.training.objective import E, Objective
from triform.training.optimizer import OptimizerSettings, adamw
from triform.training.processes import Processes
from triform.training.settings import check_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopSettings:
    """Length of a run, evaluations, checkpoints and numerics."""

    epochs: float = 3.0
    """Times that every example is seen."""
    steps: int | None = None
    """Number of parameter updates, in place of `epochs`."""
    evaluate_every: int | None = None
    """Steps between evaluations; by default those of an epoch, or all where `steps` is given."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default as between evaluations."""
    patience: int | None = None
    """Evaluations in a row without a new best score, after which training ends (early stopping)."""
    metric: str = "loss"
    """Score that decides which model is the best."""
    seed: int = 0
    """Seed of initial values, order, masks and dropout."""
    autocast: str | None = None
    """bfloat16 for matrix products in bfloat16 (mixed precision), on GPUs where these are faster."""
    recompute: bool = False
    """Whether to compute activations again for the gradients (activation checkpointing): less memory, more time."""

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "steps", "evaluate_every", "checkpoint_every", "patience")
        if self.autocast not in (None, "bfloat16"):
            raise InputError(f"autocast = {self.autocast}: expected bfloat16, or nothing for float32.")


class Training(Generic[E]):
    """Training of a model, from the last checkpoint or from the beginning.

    Arguments:
        model: trainable model; its parameters are changed.
        objective: gives the loss.
        batches: micro batches of each step.
        optimizer: settings of the optimizer.
        settings: settings of the loop.
        output: folder for the best model; its subfolder `training/` is for log and checkpoints.
        run: digest of everything that the results follow from.
        save: writes the model as it is into a folder.
        evaluate: computes the scores of the model as it is.
        processes: processes that train together.

    Raises:
        InputError: a bad row; or the folder holds checkpoints of another run, or only damaged ones.
    """

    def __init__(
        self,
        *,
        model: Model,
        objective: Objective[E],
        batches: Batches[E],
        optimizer: OptimizerSettings,
        settings: LoopSettings,
        output: Path,
        run: str,
        save: Callable[[Path], None],
        evaluate: Callable[[], Scores] | None = None,
        processes: Processes = Processes(),  # noqa: B008  it is frozen
    ) -> None:
        self._model, self._objective, self.batches = model, objective, batches
        self.settings, self._processes = settings, processes
        self._save, self._evaluate = save, evaluate
        self.output, self.folder = output, output / "training"
        self._parameters = trainable_parameters(model)
        self._optimizer_settings, self._optimizer = optimizer, adamw(self._parameters, optimizer)
        self.state = load_last_checkpoint(self.folder, run, self._parameters, self._optimizer) or State(run=run)
        self.batches.pool_steps = self.state.pool_steps
        self._autocast = None if settings.autocast is None else FORMATS[settings.autocast]
        self.num_steps = settings.steps or math.ceil(settings.epochs * batches.steps_in_epoch())
        self._evaluate_every = settings.evaluate_every or settings.steps or batches.steps_in_epoch()
        self._checkpoint_every = settings.checkpoint_every or self._evaluate_every

    def records(self) -> Iterator[Record]:
        """Train to the end, and yield the record of each step and each evaluation.

        Raises:
            InputError: a bad row.
            NonFiniteError: a gradient is not finite.
        """
        with closing(self._log()) as log:
            for micro_batches in self.batches.from_step(self.state.step):
                if self.state.step >= self.num_steps or self._has_waited():
                    break
                begin = time.perf_counter()
                record = self._step(micro_batches)
                log.seconds += time.perf_counter() - begin
                yield log.write({**record, "seconds": round(log.seconds, 3)})
                if self._evaluate is not None and self._is_due(self._evaluate_every):
                    yield log.write(self._evaluation(self._evaluate))
                if self._is_due(self._checkpoint_every) and self._processes.is_first:
                    save_checkpoint(self.folder, self.state, self._parameters, self._optimizer)
            yield log.write(self._end())
        if self._processes.is_first:
            remove_checkpoints(self.folder)

    def _log(self) -> Log:
        return Log(self.folder / "log.jsonl" if self._processes.is_first else None, step=self.state.step)

    def _end(self) -> Record:
        """Draw the curve, and save the model if evaluations have not done so."""
        if self._processes.is_first:
            draw_curve(read_log(self.folder / "log.jsonl"), self.folder / "curve.png")
            if self._evaluate is None:
                self._save(self.output)
        return {"step": self.state.step, "ended": "patience" if self._has_waited() else "steps"}

    def _is_due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.num_steps

    def _has_waited(self) -> bool:
        return self.settings.patience is not None and self.state.waited >= self.settings.patience

    def _step(self, micro_batches: Sequence[Sequence[E]]) -> Record:
        """Update the parameters once."""
        step = self.state.step
        parameters = list(self._parameters.values())
        sums = np.zeros(3)
        for number, examples in self._processes.share(list(enumerate(micro_batches))):
            rng = np.random.default_rng((self.settings.seed, step, number))
            torch.manual_seed(int(rng.integers(2**63)))
            with self._model.engine.training(autocast=self._autocast, recompute=self.settings.recompute):
                loss = self._objective.loss(self._model, examples, rng)
            loss.total.backward()
            tokens = sum(map(self._objective.num_tokens, examples))
            sums += loss.total.item(), loss.num_targets, tokens
        together = torch.tensor(sums, device=parameters[0].device)
        self._processes.sum_up(together, parameters)
        total, targets, tokens = together.tolist()
        gradients = [own.grad for own in parameters if own.grad is not None]
        norm = self._scale(gradients, max(targets, 1))
        rate = self._optimizer_settings.learning_rate_at(step, self.num_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self.state.tokens += int(tokens)
        return {
            "step": self.state.step,
            "loss": total / max(targets, 1),
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens": self.state.tokens,
        }

    def _scale(self, gradients: Sequence[torch.Tensor], targets: float) -> float:
        """Divide the gradient by the number of targets, clip the norm, and return the norm before clipping.

        Raises:
            NonFiniteError: the norm is not finite.
        """
        norm: float = torch.nn.utils.get_total_norm(gradients).item() / targets
        if not math.isfinite(norm):
            raise NonFiniteError(
                f"Step {self.state.step + 1}: the gradient is {norm}. Lower learning_rate, lengthen warmup, or look "
                "for a row with extreme values."
            )
        longest = self._optimizer_settings.max_gradient_norm or math.inf
        torch._foreach_mul_(gradients, min(1.0, longest / (norm + 1e-6)) / targets)
        return norm

    def _evaluation(self, evaluate: Callable[[], Scores]) -> Record:
        """Evaluate the model, and save the model if the score is the best so far.

        Raises:
            InputError: the evaluation has no score of the name `metric`.
        """
        scores = self._processes.broadcast(dict(evaluate()) if self._processes.is_first else None)
        if self.settings.metric not in scores:
            raise InputError(f"metric = {self.settings.metric!r}: an evaluation has {', '.join(scores)}.")
        score = scores[self.settings.metric]
        is_best = is_better(score, self.state.best, self.settings.metric)
        self.state.waited = 0 if is_best else self.state.waited + 1
        if is_best:
            self.state.best = score
            if self._processes.is_first:
                self._save(self.output)
        return {"step": self.state.step, "scores": scores}
