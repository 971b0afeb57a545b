"""Tasks whose inputs each become several sequences, which make one answer together."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triform.errors import InputError
from triform.inputs import Batch
from triform.tasks.task import Answer, Options, Task

Rows = NDArray[np.floating]
"""One row for each sequence, or one for each token."""


class MultiSequenceTask(Task[Rows, Answer]):
    """A task that weighs several sequences for one answer: documents to rank, windows of a long text.

    Inputs are taken one at a time, however many sequences they become; the token budget still cuts those.
    """

    chunk = 1

    @abstractmethod
    def preprocess(self, inputs: Sequence[Any], options: Any) -> Batch:
        """One human input → Batch of all its sequences."""

    @abstractmethod
    def postprocess(self, batch: Batch, tensors: Rows, options: Any) -> list[Answer]:
        """The tensors of all sequences of one input → its answer."""

    def _stream(self, inputs: Iterable[Any], options: Options) -> Iterator[Answer]:
        for number, given in enumerate(inputs):
            try:
                [batch] = self.batches([given], options)
            except InputError as error:
                raise InputError(f"Input {number}: {error}") from error
            yield from self.answers(batch, options)

    def batches(self, inputs: Sequence[Any], options: Any) -> Iterator[Batch]:
        """One input → one batch of all its sequences."""
        yield self.preprocess(inputs, options)

    def num_inputs(self, batch: Batch) -> int:
        return 1

    def answers(self, batch: Batch, options: Any) -> list[Answer]:
        """The one answer, put together of parts within the token budget."""
        return self.postprocess(batch, in_parts(self, batch, options), options)


def in_parts(task: Task[Rows, Any], batch: Batch, options: Any) -> Rows:
    """The rows of all sequences of a batch, which goes through the model in parts within the token budget."""
    return np.concatenate([task.forward(part, options) for part in batch.split(options.token_budget)])
