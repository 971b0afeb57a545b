"""`triform train RECIPE.toml`: train a model as a recipe says."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import triform
from triform.cli.parameters import Debug
from triform.training.api import TrainingObserver
from triform.training.log import Record
from triform.training.settings import merge_tables, parse_changes

if TYPE_CHECKING:
    from triform.training.run import Run

Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="A .toml file.", show_default=False)]
Model = Annotated[str | None, typer.Option("--model", "-m", help="The checkpoint to begin with.", show_default=False)]
Data = Annotated[Path | None, typer.Option("--data", metavar="FOLDER", help="Where the files are.", show_default=False)]
Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write the model.", show_default=False)
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other value: loop.epochs=5. Repeatable.", show_default=False),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier run with this --output ended.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin again, whatever the output holds.")]


def train(
    recipe: Recipe,
    model: Model = None,
    data: Data = None,
    output: Output = None,
    change: Changes = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train a model as a recipe says: from nothing, from a checkpoint, with a new head. Needs triform[train].

    Options stand in place of what the recipe says.

    The model is written in the Hugging Face layout, with `training/` beside it for the log, the curve and, until the
    end, checkpoints. Started by torchrun, several processes share the work.

    Example: triform train recipes/sst2.toml --data FOLDER --model MODEL --output FOLDER --set loop.seed=1
    """
    if resume and overwrite:
        raise typer.BadParameter("give either --resume or --overwrite.")
    values = parse_changes(change or [])
    flags = {"model": model, "output": output, "data": {"folder": None if data is None else data.absolute()}}
    with TerminalObserver(Console(stderr=True)) as observer:
        result = triform.train(
            recipe, resume=resume, overwrite=overwrite, observer=observer, **merge_tables(values, flags)
        )
    if result.was_complete:
        observer.print(f"{result.output} is trained to its end: there is nothing to go on with.")
    elif result.test_scores is not None:
        observer.print(f"test: {in_words(result.test_scores)}")


class TerminalObserver(TrainingObserver):
    """Observer with a summary, a progress bar on a terminal, and a line for each evaluation."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=console, disable=not sys.stderr.isatty())
        self._steps: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def print(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._console.print(text, markup=False, highlight=False)

    def begin(self, run: "Run") -> None:
        """Print the model, the number of steps, the memory and the new parameters, and start the progress bar."""
        told, training = run.forecast_memory(), run.training
        fixed = told.parameters + told.gradients + told.moments
        self.print(
            f"{run.model!r}\n{training.num_steps:,} steps, {training.state.step:,} of them done; "
            f"memory: {fixed / 1e6:,.0f} MB for parameters, gradients and moments, about "
            f"{(told.total - fixed) / 1e6:,.0f} MB for activations."
        )
        new = run.model.blueprint.new_parameters
        if new:
            self.print(f"new: {'all parameters' if len(new) == len(run.model.parameters) else ', '.join(new)}")
        self._steps = self._bar.add_task("", total=training.num_steps, completed=training.state.step)
        self._bar.start()

    def record(self, record: Record) -> None:
        """Move the progress bar after a step; print the scores of an evaluation."""
        if "loss" in record and self._steps is not None:
            self._bar.update(self._steps, completed=record["step"], description=f"loss {record['loss']:.4f}")
        elif "scores" in record:
            self.print(f"step {record['step']:,}: {in_words(record['scores'])}")


def in_words(scores: Mapping[str, float]) -> str:
    """Format scores for people."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
