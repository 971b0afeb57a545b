"""DistributedDataParallel sees the parameters: two processes have the same losses as a single process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.parity.cases import CASES
from tests.parity.harness import make_checkpoint

SCRIPT = """
import json, os, sys
import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
import triform
from triform.model import load_for_training
from triform.model.trainable import trainable_parameters

folder, sharded = sys.argv[1], sys.argv[2] == "ddp"
torch.set_num_threads(1)


class Learner(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.weights = torch.nn.ParameterList(trainable_parameters(model).values())

    def forward(self, ids, labels):
        logits = self.model.network(triform.Batch.from_ids(ids)).logits
        return torch.nn.functional.cross_entropy(logits, torch.tensor(labels).flatten())


rank, number = 0, 1
if sharded:
    distributed.init_process_group("gloo")
    rank, number = distributed.get_rank(), distributed.get_world_size()
learner = Learner(load_for_training(folder))
module = DistributedDataParallel(learner) if sharded else learner
optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
random = np.random.default_rng(0)
losses = []
for step in range(5):
    ids, labels = random.integers(3, 100, (2, 4, 12)).tolist()
    loss = module(ids[rank::number], labels[rank::number])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    total = loss.detach()
    if sharded:
        distributed.all_reduce(total)
    losses.append(total.item() / number)
if rank == 0:
    print(json.dumps(losses))
if sharded:
    distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-masked-lm", "llama-lm-tied"])
def test_two_processes_learn_as_one(name: str, tmp_path: Path) -> None:
    make_checkpoint(next(case for case in CASES if case.name == name), tmp_path)
    script = tmp_path / "learn.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    runs = [[sys.executable, str(script), str(tmp_path), "alone"], [*torchrun, str(script), str(tmp_path), "ddp"]]
    alone, both = (
        json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        for run in runs
    )
    assert both == pytest.approx(alone, rel=1e-5)
    assert alone[0] != alone[-1]
    assert np.isfinite(alone).all()
