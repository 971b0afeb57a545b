"""Batches: rows as the examples of each step, the same in every run, from any step on.

The rows of an epoch are read in pools of consecutive rows, so files may be larger than memory. The examples of a pool
are shuffled and cut into steps. The examples of a step are sorted by length and cut into micro batches within a token
budget; a micro batch goes through the model at once, packed, without padding. The order follows from the seed and the
number of the epoch, so a run that is resumed at step 1,000 draws the same examples as an undisturbed one.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Generic

import numpy as np

from triform.data import Row
from triform.errors import InputError
from triform.training.objective import E, Objective
from triform.training.settings import check_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSettings:
    """Sizes of steps, micro batches and pools."""

    batch_size: int = 32
    """Examples of a step."""
    batch_tokens: int | None = None
    """Approximate number of tokens of a step, in place of `batch_size`."""
    token_budget: int = 2048
    """Most tokens that go through the model at once, unless one example has more. A larger budget needs more memory."""
    pool_size: int = 32768
    """Rows that are shuffled together."""

    def __post_init__(self) -> None:
        check_positive(self, "batch_size", "batch_tokens", "token_budget", "pool_size")

    def num_steps(self, num_examples: int, num_tokens: int) -> int:
        """Count the steps of a pool."""
        if self.batch_tokens is None:
            return math.ceil(num_examples / self.batch_size)
        return min(math.ceil(num_tokens / self.batch_tokens), num_examples)


@dataclass(kw_only=True, eq=False)
class Batches(Generic[E]):
    """Micro batches of every step, whose gradients are added before the update (gradient accumulation).

    Arguments:
        rows: the rows, read again in every epoch.
        objective: makes examples of the rows.
        settings: sizes of steps, micro batches and pools.
        seed: seed of the order.
        num_processes: number of processes that share the micro batches of a step.
        pool_steps: steps of each pool of an epoch, as far as an earlier run has counted them.
    """

    rows: Iterable[Row]
    objective: Objective[E]
    settings: BatchSettings
    seed: int
    num_processes: int = 1
    pool_steps: list[int] = field(default_factory=list)
    _is_counted: bool = field(default=False, init=False)
    """Whether `pool_steps` covers the whole epoch."""
    _only_pool: list[E] | None = field(default=None, init=False)

    def steps_in_epoch(self) -> int:
        """Count the steps of an epoch; reads all rows unless they are counted already.

        Raises:
            InputError: no examples, or a bad row.
        """
        if not self._is_counted:
            for _ in self._pools(skip=len(self.pool_steps)):
                pass
        return sum(self.pool_steps)

    def from_step(self, begin: int) -> Iterator[list[list[E]]]:
        """Yield the micro batches of step `begin`, then of each following step, without end.

        Raises:
            InputError: no examples, or a bad row.
        """
        epoch = 0
        while self._is_counted and begin >= sum(self.pool_steps):
            begin -= sum(self.pool_steps)
            epoch += 1
        while True:
            skip = 0
            while skip < len(self.pool_steps) and begin >= self.pool_steps[skip]:
                begin -= self.pool_steps[skip]
                skip += 1
            for number, pool in enumerate(self._pools(skip), skip):
                for examples in islice(self._steps(pool, epoch, number), begin, None):
                    # The cut depends on the number of processes only where there are more processes than parts.
                    yield make_micro_batches(
                        examples, self.objective.num_tokens, self.settings.token_budget, at_least=self.num_processes
                    )
                begin = max(0, begin - self.pool_steps[number])
            epoch += 1

    def _pools(self, skip: int) -> Iterator[list[E]]:
        """Yield the examples of each pool of an epoch, except of the first `skip` pools."""
        if self._only_pool is not None:
            yield from [self._only_pool][skip:]
            return
        size = self.settings.pool_size
        rows = islice(self.rows, skip * size, None)
        number = skip
        while pool := list(islice(rows, size)):
            examples = [example for row in pool for example in self.objective.examples(row)]
            if len(self.pool_steps) == number:
                tokens = sum(map(self.objective.num_tokens, examples))
                self.pool_steps.append(self.settings.num_steps(len(examples), tokens))
            if number == 0 and len(pool) < size:
                self._only_pool = examples
            number += 1
            yield examples
        self._is_counted = True
        if not sum(self.pool_steps):
            raise InputError("There is nothing to train on: the files hold no example.")

    def _steps(self, pool: Sequence[E], epoch: int, number: int) -> Iterator[list[E]]:
        order = np.random.default_rng((self.seed, epoch, number)).permutation(len(pool))
        shuffled = [pool[index] for index in order.tolist()]
        if self.settings.batch_tokens is not None:
            return _even_parts(shuffled, self.objective.num_tokens, self.pool_steps[number])
        size = self.settings.batch_size
        return (shuffled[begin : begin + size] for begin in range(0, len(shuffled), size))


def make_micro_batches(
    examples: Sequence[E], num_tokens: Callable[[E], int], token_budget: int, *, at_least: int = 1
) -> list[list[E]]:
    """Cut examples into micro batches with about equal numbers of tokens, similar lengths together.

    Arguments:
        examples: the examples.
        num_tokens: counts the tokens of an example.
        token_budget: tokens of a micro batch; a part may exceed it by less than one example.
        at_least: smallest number of micro batches, if there are as many examples.
    """
    number = math.ceil(sum(map(num_tokens, examples)) / token_budget)
    return list(_even_parts(sorted(examples, key=num_tokens), num_tokens, max(number, at_least)))


def _even_parts(examples: Sequence[E], num_tokens: Callable[[E], int], number: int) -> Iterator[list[E]]:
    """Cut examples into consecutive, non-empty parts with about equal numbers of tokens."""
    steps = np.arange(min(number, len(examples)) + 1)
    ends = np.cumsum([0, *map(num_tokens, examples)])
    borders = np.searchsorted(ends, ends[-1] * steps / max(steps[-1], 1))
    borders = np.maximum.accumulate(borders - steps) + steps
    borders = np.minimum(borders, len(examples) - steps[::-1])
    for begin, end in pairwise(borders.tolist()):
        yield list(examples[begin:end])
