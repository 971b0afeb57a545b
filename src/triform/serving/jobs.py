"""Jobs: units of work for the executor, with callbacks for their results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from triform.generation import GeneratedToken, Request
from triform.inputs import Batch
from triform.serving.models import ServedModel
from triform.tasks import Task

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


@dataclass(eq=False, kw_only=True)
class PassJob(Job):
    """A batch to go through a model once; the result is the tensors of `task.forward`."""

    task: Task[Any, Any]
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
