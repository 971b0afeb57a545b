"""What an objective is to the loop: examples of rows, and a loss of examples."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from triform.data import Row
from triform.model import Model

E = TypeVar("E")


class Loss(NamedTuple):
    """What some examples cost."""

    total: torch.Tensor
    """The sum over the targets, a scalar."""
    targets: int


class Objective(Protocol[E]):
    """What a model learns to do."""

    def examples(self, row: Row) -> list[E]:
        """The examples of a row; a long document gives several.

        Raises:
            InputError: what is wrong with the row, which is named.
        """

    def tokens(self, example: E) -> int:
        """How many tokens an example brings to a batch."""

    def loss(self, model: Model, examples: Sequence[E], rng: np.random.Generator) -> Loss:
        """What the model makes of some examples, with gradients; `chance` is where masks are drawn from."""
