"""Jobs: units of work for the executor, with callbacks for their results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from triform.generation import GeneratedToken, Request, Score
from triform.inputs import Batch
from triform.model import Model
from triform.serving.models import ServedModel

Deliver = Callable[[Callable[..., None], Any], None]
"""Calls a function with an argument on the thread of the caller, such as `loop.call_soon_threadsafe`."""


@dataclass(eq=False, kw_only=True)
class Job:
    """Work for one model, in the name of an owner."""

    served: ServedModel
    owner: str = ""
    """The API key, or another name of who asks."""
    priority: int = 0
    """Lower values go first."""
    num_tokens: int
    """Tokens to read and to write, the cost of the job."""
    on_done: Callable[[Any], None]
    """Gets the result, or the exception."""
    is_cancelled: bool = field(default=False, init=False)
    arrived: float = field(default_factory=monotonic, init=False)
    started: float | None = field(default=None, init=False)
    ended: float | None = field(default=None, init=False)


class Step(Protocol):
    """The step of a task, or of another use of a model, from a batch to rows: an array, or a list."""

    def forward(self, batch: Batch, options: Any) -> Any: ...

    def num_rows(self, batch: Batch) -> int: ...


@dataclass(frozen=True)
class Scoring:
    """The step of scoring: each sequence gets a `Score` with `options` alternatives to each token."""

    model: Model

    def forward(self, batch: Batch, options: int) -> list[Score]:
        return self.model.score(batch, num_alternatives=options)

    def num_rows(self, batch: Batch) -> int:
        return len(batch)


@dataclass(eq=False, kw_only=True)
class PassJob(Job):
    """A batch to go through a model once; the result is what `task.forward` gives."""

    task: Step
    options: Any
    parts: Sequence[Batch]
    """The batch, cut within the token budget."""
    tensors: list[Any] = field(default_factory=list, init=False)
    """The tensors of the first parts."""


@dataclass(eq=False, kw_only=True)
class GenerationJob(Job):
    """Requests to generate; the result is None once all have ended."""

    requests: Sequence[Request]
    on_tokens: Callable[[list[GeneratedToken]], None] | None = None
    """Gets the tokens of each step; None if only the end is awaited."""


def is_over(job: GenerationJob) -> bool:
    """Check whether all requests of a job have ended, or one has failed."""
    return all(request.is_finished for request in job.requests) or any(
        request.error is not None for request in job.requests
    )
