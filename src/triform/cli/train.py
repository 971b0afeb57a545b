"""`triform train RECIPE.toml`: train a model by a recipe."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from triform.cli.parameters import Debug
from triform.errors import EngineError, InputError

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
    try:
        from triform.training.processes import started
        from triform.training.recipe import read_recipe
        from triform.training.run import prepare
    except ModuleNotFoundError as error:
        raise EngineError(f"Training needs {error.name}: pip install 'triform[train]'") from error
    if resume and overwrite:
        raise typer.BadParameter("give either --resume or --overwrite.")
    flags = {"model": model, "output": output, "data.folder": None if data is None else str(data.absolute())}
    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    read = read_recipe(recipe, [*(change or []), *given])
    with started() as processes:
        console = Console(stderr=True, quiet=not processes.is_first)
        done = is_done(Path(read.output), resume=resume, overwrite=overwrite) if processes.is_first else None
        if processes.tell(done):
            console.print(f"{read.output} is trained to its end: there is nothing to go on with.")
            return
        run = prepare(read, recipe.parent, processes)
        introduce(run, console)
        follow(run, console)
        if processes.is_first and (scores := run.test_scores()) is not None:
            console.print(f"test: {in_words(scores)}")


def is_done(output: Path, *, resume: bool, overwrite: bool) -> bool:
    """Tell whether the run is complete; `overwrite` removes an earlier run and its model.

    Raises:
        InputError: the output holds a run or a model, and should be neither resumed nor overwritten.
    """
    from triform.training.log import has_ended

    if overwrite:
        shutil.rmtree(output / "training", ignore_errors=True)
        (output / "config.json").unlink(missing_ok=True)
    elif resume:
        return has_ended(output / "training" / "log.jsonl")
    elif (output / "training").exists() or (output / "config.json").exists():
        raise InputError(
            f"{output} holds a model or a run already. Go on with --resume, begin again with --overwrite, or name "
            "another --output."
        )
    return False


def introduce(run: "Run", console: Console) -> None:
    """Print the model, the number of steps and the memory of a run."""
    told = run.forecast()
    fixed = told.parameters + told.gradients + told.moments
    console.print(
        f"{run.model!r}\n{run.training.num_steps:,} steps, {run.training.state.step:,} of them done; "
        f"memory: {fixed / 1e6:,.0f} MB for parameters, gradients and moments, about "
        f"{(told.total - fixed) / 1e6:,.0f} MB for activations.",
        markup=False,
        highlight=False,
    )
    new = "all parameters" if len(run.new_parameters) == len(run.model.parameters) else ", ".join(run.new_parameters)
    if new:
        console.print(f"new: {new}", markup=False, highlight=False)


def follow(run: "Run", console: Console) -> None:
    """Train, with a bar on a terminal and a line for each evaluation."""
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    training = run.training
    with Progress(*columns, console=console, disable=not sys.stderr.isatty() or console.quiet) as bar:
        steps = bar.add_task("", total=training.num_steps, completed=training.state.step)
        for record in training.records():
            if "loss" in record:
                bar.update(steps, completed=record["step"], description=f"loss {record['loss']:.4f}")
            elif "scores" in record:
                console.print(f"step {record['step']:,}: {in_words(record['scores'])}", highlight=False)


def in_words(scores: Mapping[str, float]) -> str:
    """Write scores for people."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
