"""Data-parallel processes: a single process, or the processes of torchrun."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """Number of processes, and rank of this process."""

    number: int = 1
    rank: int = 0

    @property
    def is_first(self) -> bool:
        """True in the process for files and reports."""
        return self.rank == 0

    def share(self, parts: Sequence[T]) -> Sequence[T]:
        """Select the parts for this process."""
        return parts[self.rank :: self.number]

    def sum_up(self, numbers: torch.Tensor, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace numbers of any shape, and the gradients of parameters, by sums over all processes, in place."""
        if self.number == 1:
            return
        # A process without a share has no gradients, and some parameters have none in any process.
        has_gradient = torch.tensor([own.grad is not None for own in parameters], device=numbers.device).int()
        distributed.all_reduce(numbers)
        distributed.all_reduce(has_gradient)
        for own, has in zip(parameters, has_gradient.tolist(), strict=True):
            if has:
                own.grad = torch.zeros_like(own) if own.grad is None else own.grad
                distributed.all_reduce(own.grad)

    def broadcast(self, value: T | None) -> T:
        """Return the first process's value in every process."""
        values = [value]
        if self.number > 1:
            distributed.broadcast_object_list(values)
        received = values[0]
        assert received is not None
        return received


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the processes of torchrun; without torchrun there is a single process."""
    number = int(os.environ.get("WORLD_SIZE", "1"))
    if number == 1:
        yield Processes()
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(number, distributed.get_rank())
    finally:
        distributed.destroy_process_group()
