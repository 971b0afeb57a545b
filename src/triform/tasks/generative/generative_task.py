"""A task whose forward pass is generation: a batch becomes requests, and requests become completions."""

from abc import abstractmethod
from typing import Any

from triform.generation import Completion, Request
from triform.inputs import Batch
from triform.tasks.task import Answer
from triform.tasks.text_task import TextTask


class GenerativeTask(TextTask[list[Completion], Answer]):
    """A task that answers with generated text."""

    @abstractmethod
    def requests(self, batch: Batch, options: Any) -> list[Request]:
        """Make a request of each sequence of a batch, for a scheduler.

        Raises:
            InputError: an impossible setting, or a limit beyond the context.
        """

    def forward(self, batch: Batch, options: Any) -> list[Completion]:
        return self.model.complete_requests(self.requests(batch, options))
