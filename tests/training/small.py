"""A small training run: a tiny decoder learns letters, in this process or in separate processes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import triform
from triform.data import Files, Row
from triform.inputs import Batch
from triform.model import Model
from triform.training.batches import Batches, BatchSettings
from triform.training.log import Record
from triform.training.loop import LoopSettings, Training
from triform.training.objective import Loss, Objective
from triform.training.optimizer import OptimizerSettings
from triform.training.processes import join_processes

KEPT = 0.9
"""The share of letters that are targets."""


@dataclass(frozen=True)
class Letters:
    ids: list[int]


class NextLetter(Objective[Letters]):
    """An objective predicts each letter from the letters before; `rng` leaves out some of the targets."""

    def __init__(self) -> None:
        pass

    def examples(self, row: Row) -> list[Letters]:
        return [Letters([ord(letter) % 200 for letter in row.values["text"]])]

    def num_tokens(self, example: Letters) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[Letters], rng: np.random.Generator) -> Loss:
        batch = Batch.from_ids([example.ids for example in examples])
        network: Any = model.network
        is_target = rng.random(len(batch.ids)) < KEPT
        is_target[batch.spans.ends - 1] = False
        rows = np.flatnonzero(is_target)
        targets = torch.from_numpy(batch.ids[rows + 1])
        return Loss(torch.nn.functional.cross_entropy(network(batch).logits[rows], targets, reduction="sum"), len(rows))


LINES = ["a cat sat on a mat", "the dog", "b", "one two three four five six seven", "and so on and on"] * 9


def write_lines(path: Path) -> Path:
    path.write_text("".join(f"{line} {number}\n" for number, line in enumerate(LINES)))
    return path


def score(model: Model) -> dict[str, float]:
    """Return a loss that rises and falls during training, so the best checkpoint is not the last."""
    logits = model(Batch.from_ids([[1, 2, 3]])).logits
    return {"loss": float(np.sin(model.engine.to_numpy(logits)).sum())}


def train(
    model: Path, texts: Path, output: Path, *, token_budget: int = 64, until: int | None = None, **settings: Any
) -> list[Record]:
    """Train to the end or up to `until` records; return the records of this run."""
    with join_processes() as processes:
        objective = NextLetter()
        loaded = triform.load(model, engine="torch")
        batches = Batches(
            rows=Files(paths=[texts]),
            objective=objective,
            settings=BatchSettings(batch_size=8, token_budget=token_budget, pool_size=30),
            seed=1,
            num_processes=processes.number,
        )
        training = Training(
            model=loaded,
            objective=objective,
            batches=batches,
            optimizer=OptimizerSettings(learning_rate=3e-3, warmup=0.1),
            settings=LoopSettings(**{"epochs": 3, "checkpoint_every": 2, "evaluate_every": 7, **settings}),
            output=output,
            run="small",
            save=loaded.save,
            evaluate=partial(score, loaded),
            processes=processes,
        )
        return list(islice(training.records(), until))


def train_alone(model: Path, texts: Path, output: Path, rank: int = 0, port: int = 0) -> None:
    """Train in a separate process, or, with a port, as one of two processes in a joint run."""
    torch.set_num_threads(1)
    if port:
        os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    train(model, texts, output, epochs=20)
