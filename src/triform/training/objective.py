"""Objective: one declaration for each training objective; the files are in `objectives/`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from triform import spec
from triform.data import Row
from triform.inputs import Tokenizer
from triform.model import Model, NewHead
from triform.training.evaluation import find_plan
from triform.training.settings import setting

E = TypeVar("E")
"""Example of an objective."""


PERPLEXITY: Mapping[str, Callable[[float], float]] = {"perplexity": math.exp}
"""Score of a language model: e to the mean loss."""


class Loss(NamedTuple):
    """Loss of some examples."""

    total: torch.Tensor
    """Sum over the targets, a scalar."""
    num_targets: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveSettings:
    """Settings of every objective."""

    max_length: int | None = setting(None, "Most tokens of a sequence, special ones included; by default all that fit.")


class Objective(ABC, Generic[E]):
    """Training objective: fields of a row, head, loss, and scores of an evaluation.

    A subclass declares the class variables and implements the abstract methods.
    """

    name: ClassVar[str]
    """Name in recipes."""
    rows: ClassVar[str]
    """Fields of a row, for people."""
    head: ClassVar[type[spec.Head] | None]
    """Head that is trained; None for the backbone alone."""
    task: ClassVar[str | None] = None
    """Task whose answers are scored in an evaluation; None where the loss alone is."""
    loss_scores: ClassVar[Mapping[str, Callable[[float], float]]] = {}
    """Name of a score → function of the mean loss."""
    settings_type: ClassVar[type[ObjectiveSettings]] = ObjectiveSettings

    @abstractmethod
    def __init__(self, model: Model, tokenizer: Tokenizer, settings: Any) -> None:
        """Prepare to make examples for a model.

        Arguments:
            model: the model.
            tokenizer: tokenizer of the model.
            settings: settings of `settings_type`.

        Raises:
            InputError: an impossible setting.
            WrongTaskError: the model cannot learn the objective.
        """

    @classmethod
    def score_names(cls) -> tuple[str, ...]:
        """Name all possible scores of an evaluation."""
        return ("loss", *cls.loss_scores, *(() if cls.task is None else find_plan(cls.task).scores))

    @classmethod
    def new_head(cls, settings: Any, rows: Iterable[Row]) -> NewHead:
        """Describe the head needed to learn from some rows.

        Raises:
            InputError: a bad row, or labels that no head can have.
        """
        return NewHead(cls.head)

    @abstractmethod
    def examples(self, row: Row) -> list[E]:
        """Make examples of a row; a long document gives several.

        Raises:
            InputError: something is wrong with the row, which is named.
        """

    def check_answer(self, row: Row) -> None:
        """Check that the answer of a test row is one that the model can give.

        Raises:
            InputError: a label that the model does not have.
        """

    @abstractmethod
    def num_tokens(self, example: E) -> int:
        """Count the tokens of an example."""

    @abstractmethod
    def loss(self, model: Model, examples: Sequence[E], rng: np.random.Generator) -> Loss:
        """Compute the loss of some examples, with gradients; masks and the like are drawn from `rng`."""
