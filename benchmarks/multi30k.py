"""A translator from nothing on Multi30k beside transformers: the same shape, tokenizer, settings and minutes.

Triform follows recipes/multi30k.toml. Seq2SeqTrainer then has as long as that took, evaluations included: its learning
rate follows the clock as the recipe's follows the steps. Its batches hold as many tokens on average, sentences of like
length together, padded to the longest. Both models answer the test sentences by the same greedy search: Triform's as it
was when it translated the validation sentences best, the other as it was at the end.

    TRIFORM_DATA=FOLDER python -m benchmarks.multi30k [--quick]
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

from benchmarks.fine_tuning import DATA, PACKAGES
from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import OURS
from triform.cli.train import TerminalObserver
from triform.tasks import find_task
from triform.training.evaluation import evaluate
from triform.training.metrics import Scores
from triform.training.optimizer import adamw
from triform.training.processes import Processes
from triform.training.recipe import Recipe, read_recipe
from triform.training.run import prepare_run

RECIPE = Path(__file__).parents[1] / "recipes" / "multi30k.toml"
QUICK_STEPS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a training run."""

    seconds: float
    steps: int
    """Number of updates of the parameters."""
    epochs: float
    """Number of passes over the pairs."""
    scores: Scores
    """Scores of the test sentences."""


class Examples:
    """The training pairs in the form of transformers, in batches of about as many tokens as the recipe's."""

    def __init__(self, recipe: Recipe, tokenizer: Any) -> None:
        rows = [row.values for row in recipe.data.files(recipe.data.train, RECIPE.parent)]
        sources, targets = (tokenizer([row[side] for row in rows]).input_ids for side in ("source", "target"))
        self.pairs = [{"input_ids": own, "labels": right} for own, right in zip(sources, targets, strict=True)]
        tokens = sum(len(own) + len(right) for own, right in zip(sources, targets, strict=True))
        self.batch_size = round((recipe.batches.batch_tokens or tokens) * len(self.pairs) / tokens)


class Clock(transformers.TrainerCallback):  # type: ignore[misc]
    """A callback ends a training run after a time limit.

    Arguments:
        limit: seconds.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._begin = time.perf_counter()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_training_stop = self.passed() >= self.limit
        return control

    def passed(self) -> float:
        """Return the seconds since the training began."""
        return time.perf_counter() - self._begin


def train_ours(recipe: Recipe) -> Outcome:
    """Train as `triform train` does."""
    begin = time.perf_counter()
    run = prepare_run(recipe, RECIPE.parent, Processes())
    with TerminalObserver(Console(stderr=True)) as observer:
        observer.begin(run)
        for record in run.training.records():
            observer.record(record)
    seconds = time.perf_counter() - begin
    steps = run.training.state.step
    return Outcome(seconds, steps, steps / run.training.batches.steps_in_epoch(), scores(recipe, Path(recipe.output)))


def train_theirs(recipe: Recipe, ours: Outcome, output: Path) -> Outcome:
    """Train with Seq2SeqTrainer for the same time."""
    transformers.set_seed(recipe.loop.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(recipe.output)
    model = transformers.MarianMTModel(transformers.MarianConfig.from_pretrained(recipe.output))
    examples = Examples(recipe, tokenizer)
    clock = Clock(ours.seconds)
    settings = replace(recipe.optimizer, warmup=recipe.optimizer.warmup / ours.steps)
    # The schedule multiplies the rate.
    optimizer = adamw(dict(model.named_parameters()), replace(settings, learning_rate=1.0))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda _: settings.learning_rate_at(min(int(1000 * clock.passed() / clock.limit), 1000), 1000)
    )
    trainer = transformers.Seq2SeqTrainer(
        model=model,
        args=transformers.Seq2SeqTrainingArguments(
            output_dir=str(output),
            num_train_epochs=1000,  # the clock ends the training
            per_device_train_batch_size=examples.batch_size,
            train_sampling_strategy="group_by_length",
            label_smoothing_factor=recipe.objective["label_smoothing"],
            max_grad_norm=settings.max_gradient_norm,
            seed=recipe.loop.seed,
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_steps=100,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=examples.pairs,
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, model),
        optimizers=(optimizer, schedule),
        callbacks=[clock],
    )
    trainer.train()
    seconds = clock.passed()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    steps = trainer.state.global_step
    return Outcome(seconds, steps, steps * examples.batch_size / len(examples.pairs), scores(recipe, output))


def scores(recipe: Recipe, model: Path) -> Scores:
    """Score the answers to the test sentences."""
    assert recipe.data.test is not None
    task = find_task("text2text-generation").load(model, **recipe.evaluation)
    return evaluate(task, recipe.data.files(recipe.data.test, RECIPE.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps, which say nothing of scores")
    arguments = parser.parse_args()
    bystanders = Bystanders()
    with TemporaryDirectory() as folder:
        loop = {"steps": QUICK_STEPS, "evaluate_every": 1000} if arguments.quick else {}
        data = {"folder": DATA / "text" / "multi30k"}
        recipe = read_recipe(RECIPE, {"data": data, "output": f"{folder}/ours", "loop": loop})
        ours = train_ours(recipe)
        found = {OURS: ours, "transformers": train_theirs(recipe, ours, Path(folder, "theirs"))}
    table = Table("", "minutes", "steps", "epochs", "BLEU", "chrF", title="Multi30k, English to German")
    for side, own in found.items():
        marks = (f"{own.scores[name]:.2f}" for name in ("bleu", "chrf"))
        table.add_row(side, f"{own.seconds / 60:.1f}", f"{own.steps:,}", f"{own.epochs:.2f}", *marks)
    Console(width=100).print(table)
    told = {side: asdict(own) for side, own in found.items()}
    machine = asdict(Machine.here(PACKAGES))
    print(json.dumps({"title": "Multi30k", **told, "machine": machine, "other processes": str(bystanders)}))


if __name__ == "__main__":
    main()
