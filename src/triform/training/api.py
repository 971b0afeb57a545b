"""Public API of training: `triform.train`. This module does not import torch."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triform.errors import EngineError, InputError
from triform.training.log import Record, has_ended, read_log
from triform.training.metrics import Scores, find_best

if TYPE_CHECKING:
    from triform.training.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """Result of a training run. Of several processes, only the first has scores."""

    output: Path
    """Folder of the model, or of the LoRA adapter."""
    num_steps: int
    """Steps of the whole run."""
    scores: Scores | None
    """Scores of the saved model on the validation rows; None without them."""
    test_scores: Scores | None
    """Scores of the saved model on the test rows; None without them, and where the run had ended before this call."""
    was_complete: bool
    """Whether an earlier call had trained the model to its end, so that this call did nothing."""


class TrainingObserver:
    """Observer of a run, called in the first process; subclasses override some of the methods."""

    def begin(self, run: "Run") -> None:
        """Called before the first step."""

    def record(self, record: Record) -> None:
        """Called after each step and each evaluation, and at the end."""


def train(
    recipe: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    observer: TrainingObserver | None = None,
    **values: Any,
) -> TrainingResult:
    """Train a new model, a checkpoint, or a checkpoint with a new head, as a recipe says.

        triform.train(
            model="folder-or-id",
            objective={"name": "sequence-classification"},
            data={"train": "train.csv", "validation": "dev.csv"},
            output="runs/reviews",
            loop={"epochs": 2},
        )

    The best model, by the validation rows, is written to `output` in the Hugging Face layout. Its folder `training` has
    the log, the curve and, until the end, checkpoints. Processes that torchrun has started share the work.

    Arguments:
        recipe: path of a .toml file; None for a recipe of `values` alone. Relative paths of data begin at the folder of
            the file, or at the working directory.
        resume: whether to continue an earlier run with this output, with the same results as an undisturbed run.
        overwrite: whether to begin again, whatever the output holds.
        observer: is told of each step.
        values: fields of `triform.training.Recipe`, with mappings for sections; laid over the file, key by key.

    Returns:
        Output folder and scores.

    Raises:
        InputError: a wrong key or value, a bad row, or an output that holds a model already.
        ModelError: the model cannot be found, is not supported, or has no head for the objective.
        EngineError: torch is not installed.
        NonFiniteError: a gradient is not finite.
    """
    try:
        from triform.training.processes import join_processes
        from triform.training.recipe import read_recipe
        from triform.training.run import prepare_run
    except ModuleNotFoundError as error:
        raise EngineError(f"Training needs {error.name}: pip install 'triform[train]'") from error
    if resume and overwrite:
        raise InputError("resume and overwrite are both set. Set one of them.")
    read = read_recipe(recipe, values)
    output = Path(read.output)
    base_dir = Path() if recipe is None else Path(recipe).parent
    with join_processes() as processes:
        is_first = processes.is_first
        done = _is_complete(output, resume=resume, overwrite=overwrite) if is_first else None
        if processes.broadcast(done):
            return _result(output, read.loop.metric, was_complete=True)
        run = prepare_run(read, base_dir, processes)
        watching = observer if is_first and observer is not None else TrainingObserver()
        watching.begin(run)
        for record in run.training.records():
            watching.record(record)
        if not is_first:
            return TrainingResult(
                output=output, num_steps=run.training.state.step, scores=None, test_scores=None, was_complete=False
            )
        return _result(output, read.loop.metric, test_scores=run.test_scores())


def _is_complete(output: Path, *, resume: bool, overwrite: bool) -> bool:
    """Check whether an earlier run has trained the model to the end; with `overwrite`, clear the output first.

    Raises:
        InputError: the output holds a model or a run, and neither `resume` nor `overwrite` is set.
    """
    if overwrite:
        shutil.rmtree(output / "training", ignore_errors=True)
        (output / "config.json").unlink(missing_ok=True)
    elif resume:
        return has_ended(output / "training" / "log.jsonl")
    elif (output / "training").exists() or (output / "config.json").exists():
        raise InputError(
            f"{output} holds a model or a run already. Go on with --resume, begin again with --overwrite (in Python "
            "resume=True, overwrite=True), or name another output."
        )
    return False


def _result(
    output: Path, metric: str, *, test_scores: Scores | None = None, was_complete: bool = False
) -> TrainingResult:
    """Make the result of a run from the log."""
    records = read_log(output / "training" / "log.jsonl")
    evaluations = [record["scores"] for record in records if "scores" in record]
    return TrainingResult(
        output=output,
        num_steps=max((record["step"] for record in records), default=0),
        scores=find_best(evaluations, metric),
        test_scores=test_scores,
        was_complete=was_complete,
    )
