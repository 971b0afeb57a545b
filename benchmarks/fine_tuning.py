"""Fine-tuning MiniLM-L6 beside the Trainer of transformers: the same rows and settings, each run in its own process.

TREC-6 and SST-2 by accuracy, wikigold by the F1 of entities, with every fifth sentence for the test. `--pairs` says how
many seeds. A time is that of an epoch without evaluations; memory is the peak while training less what imports take.

What limits it: 6 × parameters × tokens operations, of which matrix products do 60 % of the time. What can be saved is
padding, about half of a batch of mixed lengths.

    TRIFORM_DATA=FOLDER python -m benchmarks.fine_tuning [--only trec …] [--pairs SEEDS] [--quick]
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import OURS, Comparison, Series, interleave
from benchmarks.report import Report, parse_arguments
from benchmarks.trainers import SETTINGS, Outcome
from benchmarks.workload import minilm_folder
from triform.data import FileFormat, Files

DATA = Path(os.environ.get("TRIFORM_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Folder of the data sets, by default beside the checkout."""
SEEDS = 3
QUICK_STEPS = 20
QUICK_TESTS = 100
"""Steps and test rows of a quick run, which says something of time and memory, but nothing of scores."""
PACKAGES = ("numpy", "tokenizers", "torch", "transformers", "triform")
SIDES = {OURS: "ours", "transformers": "transformers"}
COSTS = {"epoch": "s", "memory": "MiB"}
"""The fields of an `Outcome` besides the score, and the units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A data set."""

    train: str
    test: str | None = None
    """None takes every fifth training row for the test."""
    settings: dict[str, Any] = field(default_factory=dict)

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows for training and for testing."""
        train = self._read(self.train)
        if self.test is not None:
            return {"train": train, "test": self._read(self.test)}
        return {"train": [row for number, row in enumerate(train) if number % 5], "test": train[::5]}

    def _read(self, path: str) -> list[dict[str, Any]]:
        return [dict(row.values) for row in Files(paths=[DATA / "text" / path], **self.settings)]


LABELLED = r"(?P<label>\d) (?P<text>.+)"
CASES = {
    "trec": Case(
        train="trec/TREC.train.all",
        test="trec/TREC.test.all",
        settings={"pattern": LABELLED, "encoding": "latin-1"},
    ),
    "sst2": Case(train="sst2/stsa.binary.train", test="sst2/stsa.binary.test", settings={"pattern": LABELLED}),
    "wikigold": Case(train="ner/wikigold/CONLL-format/data/wikigold.conll.txt", settings={"format": FileFormat.CONLL}),
}


def write(case: Case, folder: Path, *, quick: bool) -> str:
    """Write the rows for both sides; return the counts as text."""
    rows = case.rows()
    if quick:
        rows["test"] = rows["test"][:QUICK_TESTS]
    for part, own in rows.items():
        (folder / f"{part}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in own))
    labels = sorted({label for row in rows["train"] for label in row.get("tags", [row.get("label")])})
    (folder / "labels.json").write_text(json.dumps(labels))
    return f"{len(rows['train']):,} rows to train on, {len(rows['test']):,} to test on, {len(labels)} labels"


def train(side: str, folder: Path, seeds: Iterator[int], steps: int) -> Outcome:
    """Run a training in a separate process."""
    seed = next(seeds)
    command = [sys.executable, "-m", f"benchmarks.trainers.{side}", folder, minilm_folder(), seed, steps]
    done = subprocess.run([str(each) for each in command], check=True, capture_output=True, text=True)
    outcome = Outcome(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{side}, seed {seed}: {outcome}", file=sys.stderr)  # for a run stopped before the report
    return outcome


def outcomes(name: str, seeds: int, facts: dict[str, str], *, quick: bool) -> dict[str, list[Outcome]]:
    """Train both sides in turn; return side → the outcome of each seed."""
    with TemporaryDirectory() as folder:
        facts[name] = write(CASES[name], Path(folder), quick=quick)
        steps = QUICK_STEPS if quick else 0
        runs = [partial(train, side, Path(folder), count(), steps) for side in SIDES.values()]
        return dict(zip(SIDES, interleave(runs, rounds=seeds), strict=True))


def main() -> None:
    arguments = parse_arguments(__doc__, list(CASES), pairs=SEEDS)
    bystanders = Bystanders()
    facts = {"settings": ", ".join(f"{name} {value}" for name, value in SETTINGS.items())}
    found = {
        name: outcomes(name, arguments.pairs, facts, quick=arguments.quick) for name in CASES if arguments.wanted(name)
    }
    comparisons = [
        Comparison(
            name=f"{name}, {cost}",
            unit=unit,
            values={side: [getattr(outcome, cost) for outcome in own] for side, own in sides.items()},
        )
        for name, sides in found.items()
        for cost, unit in COSTS.items()
    ]
    scores = [
        Series(name=f"{name}, {side}", unit="%", values=[outcome.score for outcome in own])
        for name, sides in found.items()
        for side, own in sides.items()
    ]
    Report(
        title="Fine-tuning",
        machine=Machine.here(PACKAGES),
        pairs=arguments.pairs,
        comparisons=comparisons,
        series=scores,
        facts={**facts, "other processes": str(bystanders)},
    ).print()


if __name__ == "__main__":
    main()
