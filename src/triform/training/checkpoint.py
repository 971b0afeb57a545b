"""Training checkpoints: the state of a run for resuming, in folders that are never half written.

A checkpoint is written into a folder of another name, flushed to disk, and renamed in one step; only then is the
checkpoint before the last deleted. `state.json`, which is written last, holds a digest of each file.
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
from triform.replacing import sync_to_disk, writing

KEPT = 2
"""Checkpoints that are kept, so that one is left if the disk damages the last."""
STATE = "state.json"
PARAMETERS = "parameters"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""State of AdamW for each parameter: number of updates, and running means of the gradient and of its square."""


@dataclass(kw_only=True, slots=True)
class State:
    """State of a run, besides the tensors."""

    run: str
    """Digest of everything that the run's results follow from; a resumed run must have the same."""
    step: int = 0
    """Steps that are done."""
    tokens: int = 0
    """Tokens that were read."""
    best: float | None = None
    """Best score so far."""
    waited: int = 0
    """Evaluations since the best score."""
    pool_steps: list[int] = field(default_factory=list)
    """Steps of each pool of an epoch, as far as they are counted."""


def save_checkpoint(
    folder: Path, state: State, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Add a checkpoint to a folder, and delete all but the last two.

    Raises:
        OutputError: the checkpoint cannot be written; the ones before are then unchanged.
    """
    target = folder / f"checkpoint-{state.step:09d}"
    partial = folder / f"{target.name}.partial"
    with writing(target, "The checkpoints before are unchanged; make room, and train again with --resume."):
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


def load_last_checkpoint(
    folder: Path, run: str, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> State | None:
    """Load parameters and moments from the last sound checkpoint of a folder.

    Returns:
        State of the run, or None where the folder has no checkpoint.

    Raises:
        InputError: the checkpoint is of another run, or all checkpoints are damaged.

    Warns:
        UserWarning: a damaged checkpoint is skipped.
    """
    found = _found(folder)
    for path in reversed(found):
        try:
            state = _state(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{path} is damaged and skipped: {error}", stacklevel=2)
            continue
        if state.run != run:
            raise InputError(
                f"{path} is of a run with other settings, data or model, so it cannot be resumed. Resume it with the "
                "recipe it began with, or begin again with --overwrite."
            )
        _load_tensors(path, parameters, optimizer)
        return state
    if found:
        raise InputError(f"{folder} holds only damaged checkpoints. Begin again with --overwrite.")
    return None


def remove_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a folder, the newest first, so an interruption leaves only older ones."""
    for path in reversed(_found(folder)):
        shutil.rmtree(path)


def _found(folder: Path) -> list[Path]:
    """List the checkpoints of a folder by step."""
    return sorted(folder.glob(f"checkpoint-{'[0-9]' * 9}"))


def _files(
    parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, torch.Tensor]]:
    """Collect the tensors of each file by canonical name; parameters without gradients have no moments."""
    states = {name: optimizer.state[own] for name, own in parameters.items() if own in optimizer.state}
    moments = {kind: {name: state[kind] for name, state in states.items()} for kind in MOMENTS}
    return {PARAMETERS: {name: own.detach() for name, own in parameters.items()}, **moments}


def _state(folder: Path) -> State:
    """Read the state of a checkpoint, and check the digest of every file.

    Raises:
        ValueError: a file is damaged.
    """
    content = strict_json.read(folder / STATE)
    for file, digest in content.pop("files").items():
        if _digest(folder / file) != digest:
            raise ValueError(f"{file} does not have the digest that it was written with")
    return State(**content)


def _load_tensors(folder: Path, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(folder / f"{PARAMETERS}.safetensors"):
            parameters[name].copy_(tensor)
        for kind in MOMENTS:
            for name, tensor in _tensors(folder / f"{kind}.safetensors"):
                optimizer.state[parameters[name]][kind] = tensor.to(parameters[name].device)


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  not a dictionary
            yield name, file.get_tensor(name)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
