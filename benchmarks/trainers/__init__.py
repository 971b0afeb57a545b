"""The sides of `benchmarks.fine_tuning`, each a separate program.

    python -m benchmarks.trainers.SIDE FOLDER CHECKPOINT SEED STEPS

FOLDER holds train.jsonl, test.jsonl and labels.json. With STEPS above 0 training ends early. The last line that is
printed is an `Outcome`.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SETTINGS: Mapping[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "max_gradient_norm": 1.0,
}
"""Settings of both sides."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a training run."""

    score: float
    """Accuracy or F1 on the test rows, in percent."""
    epoch: float
    """Seconds of an epoch, evaluations left out."""
    memory: float
    """Peak of resident memory while training, less what was resident after the imports, in MiB."""

    def print(self) -> None:
        """Print the outcome as the last line."""
        print(json.dumps(asdict(self)), flush=True)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command-line arguments of a side."""

    folder: Path
    checkpoint: Path
    seed: int
    steps: int

    @property
    def labels(self) -> list[str]:
        """Return the labels in the order of the logits."""
        labels: list[str] = json.loads((self.folder / "labels.json").read_text())
        return labels

    @property
    def is_tagging(self) -> bool:
        """Return whether the labels belong to words."""
        return "O" in self.labels

    def rows(self, part: str) -> list[dict[str, Any]]:
        """Return the rows of train or test."""
        return [json.loads(line) for line in (self.folder / f"{part}.jsonl").read_text().splitlines()]


def parse() -> Arguments:
    """Read the command line of a side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("steps", type=int)
    return Arguments(**vars(parser.parse_args()))


def resident(key: str) -> float:
    """Read VmRSS or VmHWM of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024
