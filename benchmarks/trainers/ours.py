"""Triform's side of the fine-tuning benchmark."""

import tempfile
import time

import torch._dynamo  # noqa: F401  which torch's optimizers import, and the other side's libraries have by now

from benchmarks.trainers import SETTINGS, Arguments, Outcome, parse, resident
from triform.data import Files
from triform.tasks import find_task
from triform.training.batches import BatchSettings
from triform.training.evaluation import evaluate
from triform.training.loop import LoopSettings
from triform.training.optimizer import OptimizerSettings
from triform.training.processes import Processes
from triform.training.recipe import DataSettings, Recipe
from triform.training.run import prepare_run


def recipe(arguments: Arguments, output: str) -> Recipe:
    """Return the recipe as read by `triform train`."""
    return Recipe(
        objective={
            "name": "token-classification" if arguments.is_tagging else "sequence-classification",
            "labels": arguments.labels,
        },
        data=DataSettings(train="train.jsonl"),
        model=str(arguments.checkpoint),
        output=output,
        batches=BatchSettings(batch_size=SETTINGS["batch_size"]),
        optimizer=OptimizerSettings(
            **{name: SETTINGS[name] for name in ("learning_rate", "warmup", "weight_decay", "max_gradient_norm")}
        ),
        loop=LoopSettings(
            epochs=SETTINGS["epochs"],
            steps=arguments.steps or None,
            checkpoint_every=10**9,
            seed=arguments.seed,
        ),
    )


def main() -> None:
    arguments = parse()
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as output:
        run = prepare_run(recipe(arguments, output), arguments.folder, Processes())
        steps_in_epoch = run.training.batches.steps_in_epoch()  # which tokenizes, as the other side has by now
        begin = time.perf_counter()
        # After the last step follow the plot and the files.
        seconds = max(time.perf_counter() - begin for record in run.training.records() if "loss" in record)
        memory = resident("VmHWM") - before
        task = find_task("token-classification" if arguments.is_tagging else "text-classification").load(output)
        scores = evaluate(task, Files(paths=[arguments.folder / "test.jsonl"]))
    epoch = seconds / run.training.state.step * steps_in_epoch
    Outcome(100 * scores["f1" if arguments.is_tagging else "accuracy"], epoch, memory).print()


if __name__ == "__main__":
    main()
