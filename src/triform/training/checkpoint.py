"""All that a run needs to go on as if nothing had happened, in folders that are whole or not there.

A checkpoint is written into a folder of another name, reaches the disk, and takes its own name in one step; only then
is the one before the last deleted. A digest of each file stands in `state.json`, which is written last.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from triform import strict_json
from triform.errors import InputError
from triform.weights import sync_to_disk

KEPT = 2
"""If the disk has damaged the last, there is one before it."""
STATE = "state.json"
PARAMETERS = "parameters"
MEMORIES = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW remembers of each parameter: how often it was changed, and the means of its gradient and its square."""


@dataclass(kw_only=True, slots=True)
class State:
    """Where a run stands, besides its tensors."""

    run: str
    """A digest of all that the run's numbers follow from; one that goes on must agree."""
    step: int = 0
    """How many are done."""
    tokens: int = 0
    """How many were read."""
    best: float | None = None
    """The best score so far."""
    waited: int = 0
    """Evaluations since then."""
    pool_steps: list[int] = field(default_factory=list)
    """Steps of each pool of an epoch, as far as they are counted."""


def save(
    folder: Path, state: State, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Add a checkpoint to a folder, and delete those that are no longer needed."""
    target = folder / f"checkpoint-{state.step:09d}"
    partial = folder / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    digests = {}
    for kind, tensors in _files(parameters, optimizer).items():
        path = partial / f"{kind}.safetensors"
        save_file(tensors, path)
        digests[path.name] = _digest(path)
    (partial / STATE).write_text(json.dumps({**asdict(state), "files": digests}, indent=1), encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        sync_to_disk(path)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    sync_to_disk(folder)
    for old in _found(folder)[:-KEPT]:
        shutil.rmtree(old)


def load_last(
    folder: Path, run: str, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> State | None:
    """Take parameters and moments from the last checkpoint that is whole.

    Returns:
        Its state, or None where a run has not got to its first checkpoint.

    Raises:
        InputError: it is of another run, or there are checkpoints but none is whole.

    Warns:
        UserWarning: a damaged one was passed over.
    """
    found = _found(folder)
    for path in reversed(found):
        try:
            state = _state(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{path} is damaged and passed over: {error}", stacklevel=2)
            continue
        if state.run != run:
            raise InputError(
                f"{path} is of a run with other settings, data or model, so this one cannot go on with it. Run it as "
                "it began, or begin again with --overwrite."
            )
        _take(path, parameters, optimizer)
        return state
    if found:
        raise InputError(f"{folder} holds no checkpoint that is whole. Begin again with --overwrite.")
    return None


def remove_all(folder: Path) -> None:
    """Delete what nobody will go on from, the last first, so that none is taken for whole that is not."""
    for path in reversed(_found(folder)):
        shutil.rmtree(path)


def _found(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the first first."""
    return sorted(folder.glob(f"checkpoint-{'[0-9]' * 9}"))


def _files(
    parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of each file by their canonical names; a parameter that never had a gradient has no memories."""
    changed = {name: optimizer.state[own] for name, own in parameters.items() if own in optimizer.state}
    memories = {kind: {name: memory[kind] for name, memory in changed.items()} for kind in MEMORIES}
    return {PARAMETERS: {name: own.detach() for name, own in parameters.items()}, **memories}


def _state(folder: Path) -> State:
    """The state of a checkpoint of which every file is as it was written."""
    content = strict_json.read(folder / STATE)
    for file, digest in content.pop("files").items():
        if _digest(folder / file) != digest:
            raise ValueError(f"{file} is not as it was written")
    return State(**content)


def _take(folder: Path, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(folder / f"{PARAMETERS}.safetensors"):
            parameters[name].copy_(tensor)
        for kind in MEMORIES:
            for name, tensor in _tensors(folder / f"{kind}.safetensors"):
                optimizer.state[parameters[name]][kind] = tensor.to(parameters[name].device)


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  it is no dictionary
            yield name, file.get_tensor(name)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
