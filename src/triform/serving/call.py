"""A call: one HTTP request on its way through the server, with all that a route may do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from triform.errors import InputError
from triform.generation import Request, Score
from triform.inputs import Batch, EncodedText, LongInput
from triform.serving.errors import ApiError, Dialect
from triform.serving.jobs import GenerationJob, Job, PassJob, Scoring, Step
from triform.serving.models import ServedModel
from triform.serving.settings import Settings
from triform.serving.state import State
from triform.serving.tokens import Tokens
from triform.tasks import Task
from triform.tasks.generative.generative_task import GenerativeTask
from triform.tasks.options import with_changes
from triform.tasks.runner import num_characters

T = TypeVar("T")

SMALL = 2000
"""Characters that are tokenized on the event loop; more go to the pool. A change of threads costs as much as them."""
PART_TOKENS = 256
"""Tokens of the parts in which a batch goes to the executor, so that small jobs pass between them."""


@dataclass(kw_only=True)
class Call:
    """One HTTP request.

    Counts what it reads and writes for headers, metrics and the log. Everything it holds is given back by `close`.
    """

    state: State
    id: str
    owner: str
    """The API key, or the empty string."""
    headers: Mapping[str, str]
    """Headers of the request, in lower case."""
    path: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the path."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters behind the question mark."""
    dialect: Dialect = Dialect.OPENAI
    """The form of errors."""
    begin: float = field(default_factory=monotonic)
    response_headers: dict[str, str] = field(default_factory=dict)
    model_name: str = ""
    task_name: str = ""
    num_input_tokens: int = 0
    num_output_tokens: int = 0
    num_cached_tokens: int = 0
    num_truncated_tokens: int = 0
    tokenization_seconds: float = 0.0
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    logged_body: str | None = None
    """The beginning of the body, if the settings let the log have it."""
    stage: str = "reading"
    """What the call is doing: reading, queued, running or streaming."""
    _num_taken: int = 0
    """Tokens counted by admission."""
    _generations: list["Tokens"] = field(default_factory=list)
    """What the executor generates for this call."""

    @property
    def settings(self) -> Settings:
        """The server's settings."""
        return self.state.settings

    def find(self, name: str | None, *tasks: str) -> ServedModel:
        """Find the model that the request means: by the path, else by `name`. Errors as in `Registry.find`."""
        served = self.state.registry.find(self.path.get("model") or name, *tasks)
        self.model_name = served.name
        return served

    async def in_pool(self, work: Callable[[], T], size: int) -> T:
        """Do work of a size in characters: at once if it is small, on a thread of the pool if not."""
        if size <= SMALL:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.state.pool, work)

    def check_count(self, count: int, param: str) -> None:
        """Refuse no inputs, or too many.

        Raises:
            ApiError: naming the field.
        """
        if not count:
            raise ApiError(400, f"{param}: expected one or more, got none.", code="empty", param=param)
        if count > self.settings.max_inputs:
            raise ApiError(
                400, f"{param}: expected at most {self.settings.max_inputs}, got {count}. Send fewer.", param=param
            )

    def long_input(self, truncate: bool | None) -> Mapping[str, Any]:
        """Return the option that a request's `truncate` means; None leaves it to the server's setting."""
        return {"long_input": LongInput.TRUNCATE if self.cuts(truncate) else LongInput.ERROR}

    def cuts(self, truncate: bool | None) -> bool:
        """Check whether long input is cut, by a request's `truncate` or else by the server's setting."""
        return self.settings.auto_truncate if truncate is None else truncate

    def count_dropped(self, num_tokens: int) -> None:
        """Tell the client of tokens that were cut off."""
        if num_tokens:
            self.num_truncated_tokens += num_tokens
            self.response_headers["x-truncated-tokens"] = str(self.num_truncated_tokens)
            self.warn(f"truncation; {self.num_truncated_tokens} tokens dropped")

    async def encode(self, served: ServedModel, work: Callable[[], Batch], size: int) -> Batch:
        """Encode input of a size in characters. Admission counts an estimate first, and then the tokens."""
        estimate = max(1, size // 4)
        self.take(estimate)
        batch = await self.in_pool(work, size)
        self.count_input(served, batch)
        self.take(max(0, batch.num_rows - estimate))
        return batch

    async def answers(
        self,
        served: ServedModel,
        task: Task[Any, Any],
        inputs: Sequence[Any],
        *,
        priority: int = 0,
        encode: Callable[[Sequence[Any], Any], Batch] | None = None,
        size: int | None = None,
        **options: Any,
    ) -> list[Any]:
        """Answer inputs by a task, all of them in order.

        Arguments:
            served: the model.
            task: one of the model's tasks.
            inputs: one or more inputs, as the task reads them.
            priority: lower values go first.
            encode: takes the place of `task.preprocess`, for inputs of another kind.
            size: characters of all sequences, where several of them repeat a text of an input.
            options: the task's own; None leaves an option as it is.

        Raises:
            TriformError, ApiError: as the task raises, or as admission does.
        """
        chosen = with_changes(task.options, {k: v for k, v in options.items() if v is not None}, task.name)
        self.task_name = task.name
        groups = [[one] for one in inputs] if task.several_sequences else [list(inputs)]
        size = num_characters(list(inputs)) if size is None else size
        estimate = max(1, size // 4)
        self.take(estimate)
        begin = monotonic()

        def prepare() -> list[Batch]:
            task.check_options(chosen)
            return [(encode or task.preprocess)(group, chosen) for group in groups]

        # A grammar of an answer takes longer to compile than its characters tell.
        batches = await self.in_pool(prepare, SMALL + 1 if isinstance(task, GenerativeTask) else size)
        self.tokenization_seconds += monotonic() - begin
        for batch in batches:
            self.count_input(served, batch)
        self.take(max(0, sum(batch.num_rows for batch in batches) - estimate))
        passes = [self.forward(served, task, batch, chosen, priority=priority) for batch in batches]
        tensors = [await passes[0]] if len(passes) == 1 else await asyncio.gather(*passes)

        def finish() -> list[Any]:
            return [
                answer
                for batch, own in zip(batches, tensors, strict=True)
                for answer in task.postprocess(batch, own, chosen)
            ]

        return await self.in_pool(finish, size)

    async def forward(
        self, served: ServedModel, task: Task[Any, Any], batch: Batch, options: Any, *, priority: int = 0
    ) -> Any:
        """Run the forward pass of a task in the executor, in shared passes, and return its tensors."""
        if isinstance(task, GenerativeTask):
            requests = await self.in_pool(lambda: task.requests(batch, options), SMALL + 1)
            async with self.generation(served, requests, priority=priority) as tokens:
                async for _ in tokens:
                    pass
            return [completion for request in requests for completion in request.completions]
        return await self._pass(served, task, batch, options, priority=priority)

    async def scores(
        self, served: ServedModel, batch: Batch, num_alternatives: int, *, priority: int = 0
    ) -> list[Score]:
        """Score the tokens of sequences in the executor, as `Model.score` does."""
        step = Scoring(served.model)
        scores: list[Score] = await self._pass(served, step, batch, num_alternatives, priority=priority)
        return scores

    async def _pass(self, served: ServedModel, task: Step, batch: Batch, options: Any, *, priority: int) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        job = PassJob(
            served=served,
            owner=self.owner,
            priority=priority,
            num_tokens=batch.num_rows,
            on_done=lambda result: _settle(future, result),
            task=task,
            options=options,
            parts=list(batch.split(PART_TOKENS)),
        )
        self.stage = "queued"
        self.state.executor.submit(job)
        try:
            return await future
        finally:
            self._count_job(job)
            if not future.done() or future.cancelled():
                self.state.executor.cancel(job)

    @asynccontextmanager
    async def generation(
        self, served: ServedModel, requests: Sequence[Request], *, priority: int = 0
    ) -> AsyncIterator["Tokens"]:
        """Run requests in the executor; the context is an asynchronous iterator of the tokens of each step.

        Leaving the context ends the requests. Errors as in `begin_generation`.
        """
        tokens = self.begin_generation(served, requests, priority=priority)
        try:
            yield tokens
        finally:
            self.end_generation(tokens)

    def begin_generation(self, served: ServedModel, requests: Sequence[Request], *, priority: int = 0) -> "Tokens":
        """Submit requests to the executor, for an answer in events: it is admitted before the status is sent.

        The requests end with `end_generation`, and at the latest with the call.

        Raises:
            ApiError: the requests have more tokens than the server takes.
        """
        most = self.settings.max_new_tokens
        cost = 0
        for request in requests:
            if request.limit.num_tokens > most:
                raise ApiError(
                    400,
                    f"max_tokens: {request.limit.num_tokens} new tokens are more than the {most} that the server "
                    "allows for a request.",
                    param="max_tokens",
                )
            cost += request.num_branches * request.limit.num_tokens
        self.take(cost)
        tokens = Tokens(self._saw_step)
        tokens.job = GenerationJob(
            served=served,
            owner=self.owner,
            priority=priority,
            num_tokens=cost,
            on_done=tokens.end,
            on_tokens=tokens.add,
            requests=requests,
        )
        self.stage = "queued"
        self._generations.append(tokens)
        self.state.executor.submit(tokens.job)
        return tokens

    def end_generation(self, tokens: "Tokens") -> None:
        """End the requests of `begin_generation`, and count what they have done."""
        if tokens not in self._generations:
            return
        self._generations.remove(tokens)
        self._count_job(tokens.job)
        self.num_output_tokens += tokens.count
        self.num_cached_tokens += sum(request.num_cached_tokens for request in tokens.job.requests)
        if not tokens.has_ended:
            self.state.executor.cancel(tokens.job)

    def count_input(self, served: ServedModel, batch: Batch) -> None:
        """Count the tokens of a batch, and tell the client of tokens that were cut off."""
        self.num_input_tokens += batch.num_rows
        self.count_dropped(sum(source.dropped for source in batch.sources if isinstance(source, EncodedText)))

    def warn(self, text: str) -> None:
        """Tell the client something in a header that the clients of Hugging Face print as a warning."""
        self.response_headers["X-HF-Warning"] = text.encode("ascii", "replace").decode()

    def take(self, num_tokens: int) -> None:
        """Count tokens by admission until the end of the call. Errors as in `Admission.take`."""
        self.state.admission.take(num_tokens)
        self._num_taken += num_tokens

    def close(self) -> None:
        """End what still runs, and give back what admission has counted."""
        for tokens in list(self._generations):
            self.end_generation(tokens)
        self.state.admission.give(self._num_taken)
        self._num_taken = 0

    def _saw_step(self, last: float | None, now: float) -> None:
        """Measure the time to the first token, or since the last one."""
        metrics = self.state.metrics
        if last is None:
            metrics.first_token_seconds.labels(self.model_name).observe(now - self.begin)
        else:
            metrics.token_seconds.labels(self.model_name).observe(now - last)

    def _count_job(self, job: Job) -> None:
        now = monotonic()
        started = job.started or now
        self.queue_seconds += started - job.arrived
        self.inference_seconds += (job.ended or now) - started
        if job.started is not None:
            self.stage = "running"


def _settle(future: "asyncio.Future[Any]", result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


Handler = Callable[[Call, Any], Awaitable[Any]]
"""A route's function: the call and the decoded body → an answer, or a `Stream`."""


def first_error(param: str, error: InputError) -> ApiError:
    """Name the field of the body that an input error is about."""
    return ApiError(400, f"{param}: {error}", param=param)
