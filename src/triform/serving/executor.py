"""The executor: one thread that owns all models, and shares the machine among jobs by a token budget.

Each round gives every model with running requests a step (one token of each sequence, and chunks of prompts), and then
lets one batch of other jobs through a model. While streams run, chunks and batches are kept so small that a step takes
no longer than `step_goal` steps without them. What shares a pass never changes an answer on a batch-invariant engine.
"""

import logging
import threading
from collections.abc import Callable
from itertools import chain
from time import monotonic
from typing import Any

import numpy as np

from triform.errors import TriformError
from triform.generation import Scheduler
from triform.inputs import Batch
from triform.serving.fair_queue import FairQueue
from triform.serving.jobs import Deliver, GenerationJob, Job, PassJob, is_over
from triform.serving.models import ServedModel

log = logging.getLogger("triform.serving")

TOKEN_BUDGET = 2048
"""Most tokens of a pass without streams beside it."""
LEAST_TOKENS = 8
"""Tokens of a pass beside streams, at the least."""
SMOOTHING = 0.2
"""Weight of the newest measurement of speed."""


class Pace:
    """The measured speed of a model: how many tokens can be read in a time."""

    def __init__(self) -> None:
        self.step_seconds = 0.0
        """Time of a step that only decodes; 0 before the first."""
        self._token_seconds = 0.0

    def add_step(self, seconds: float) -> None:
        """Count a step that only decoded."""
        self.step_seconds = _smoothed(self.step_seconds, seconds)

    def add_tokens(self, num_tokens: int, seconds: float) -> None:
        """Count tokens that were read in a pass."""
        if num_tokens:
            self._token_seconds = _smoothed(self._token_seconds, seconds / num_tokens)

    def tokens_in(self, seconds: float) -> int:
        """Return the tokens that can be read in a time, between `LEAST_TOKENS` and `TOKEN_BUDGET`."""
        if not self._token_seconds:
            return LEAST_TOKENS
        return min(max(int(seconds / self._token_seconds), LEAST_TOKENS), TOKEN_BUDGET)


def _smoothed(known: float, new: float) -> float:
    return new if not known else known + SMOOTHING * (new - known)


def _joined(parts: list[Any]) -> Any:
    """Join the rows of the parts of a batch: arrays, or lists."""
    if len(parts) == 1:
        return parts[0]
    return list(chain.from_iterable(parts)) if isinstance(parts[0], list) else np.concatenate(parts)


class Lane:
    """The work of one model: a scheduler for its requests, and queues of what waits."""

    def __init__(self, served: ServedModel, cache_bytes: int | None) -> None:
        self.served = served
        self._cache_bytes = cache_bytes
        self._scheduler: Scheduler | None = None
        self.waiting: FairQueue[GenerationJob] = FairQueue()
        self.running: list[GenerationJob] = []
        self.passes: FairQueue[PassJob] = FairQueue()
        self.pace = Pace()

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler of the model, made for the first request."""
        if self._scheduler is None:
            self._scheduler = self.served.model.new_scheduler(byte_budget=self._cache_bytes)
        return self._scheduler

    @property
    def has_work(self) -> bool:
        """Check for jobs that wait or run."""
        return bool(self.running or self.waiting or self.passes)

    @property
    def num_running(self) -> int:
        """Count the sequences that generate."""
        return sum(request.num_branches for job in self.running for request in job.requests)


class Executor:
    """Runs jobs on a thread of its own.

    Arguments:
        models: the models to own.
        deliver: calls a function on the caller's thread.
        max_running: most sequences of a model that generate at once.
        cache_bytes: most bytes of keys and values of each model; None for no limit.
        step_goal: how many times longer a step may take beside running streams.
        on_death: called when the thread has died of an unexpected error.
    """

    def __init__(
        self,
        models: list[ServedModel],
        deliver: Deliver,
        *,
        max_running: int = 64,
        cache_bytes: int | None = None,
        step_goal: float = 2.0,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self.lanes = {model.name: Lane(model, cache_bytes) for model in models}
        self.heartbeat = monotonic()
        """When the thread last began a round, or looked for work."""
        self._deliver = deliver
        self._max_running = max_running
        self._cache_bytes = cache_bytes
        self._step_goal = step_goal
        self._on_death = on_death
        self._condition = threading.Condition()
        self._inbox: list[Job] = []
        self._cancelled: list[Job] = []
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="triform-executor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Check whether the thread runs."""
        return self._thread.is_alive()

    @property
    def is_busy(self) -> bool:
        """Check for jobs that wait or run."""
        return bool(self._inbox) or any(lane.has_work for lane in self.lanes.values())

    def submit(self, job: Job) -> None:
        """Queue a job; may be called from any thread."""
        with self._condition:
            self._inbox.append(job)
            self._condition.notify()

    def cancel(self, job: Job) -> None:
        """End a job in whatever state it is. Its pages are free before the next step, and `on_done` is not called."""
        job.is_cancelled = True
        with self._condition:
            self._cancelled.append(job)
            self._condition.notify()

    def stop(self) -> None:
        """End the thread after the present round."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._receive():
                for lane in self.lanes.values():
                    self._admit(lane)
                    if lane.running:
                        self._step(lane)
                if (chosen := self._next_pass()) is not None:
                    self._pass(chosen)
        except BaseException:
            log.exception("the executor has died")
            self._on_death()

    def _receive(self) -> bool:
        """Take new and cancelled jobs, and wait for some if there is no work. Return False to end."""
        with self._condition:
            self.heartbeat = monotonic()
            while not (self._inbox or self._cancelled or self._is_stopping or self._has_work()):
                self._condition.wait(timeout=1.0)
                self.heartbeat = monotonic()
            if self._is_stopping:
                return False
            inbox, self._inbox = self._inbox, []
            cancelled, self._cancelled = self._cancelled, []
        for job in inbox:
            lane = self.lanes[job.served.name]
            if isinstance(job, GenerationJob):
                lane.waiting.add(job)
            elif isinstance(job, PassJob):
                lane.passes.add(job)
        for job in cancelled:
            self._drop(job)
        return True

    def _has_work(self) -> bool:
        return any(lane.has_work for lane in self.lanes.values())

    def _drop(self, job: Job) -> None:
        lane = self.lanes[job.served.name]
        if isinstance(job, PassJob):
            lane.passes.remove(job, is_served=False)
        elif isinstance(job, GenerationJob) and not lane.waiting.remove(job, is_served=False) and job in lane.running:
            self._end(lane, job)

    def _admit(self, lane: Lane) -> None:
        """Move waiting jobs to the scheduler, as many as may run at once."""
        while (job := lane.waiting.first()) is not None:
            num_new = sum(request.num_branches for request in job.requests)
            if lane.running and lane.num_running + num_new > self._max_running:
                return
            lane.waiting.remove(job, is_served=True)
            job.started = monotonic()
            try:
                for request in job.requests:
                    lane.scheduler.add(request)
            except TriformError as error:
                for request in job.requests:
                    lane.scheduler.cancel(request)
                self._finish(job, error)
                continue
            lane.running.append(job)

    def _step(self, lane: Lane) -> None:
        """Run one pass of the running requests, and deliver their tokens."""
        unread = [request for job in lane.running for request in job.requests if request.is_unread]
        num_decoding = lane.num_running - sum(request.num_branches for request in unread)
        room = TOKEN_BUDGET
        if unread and num_decoding and lane.pace.step_seconds:
            room = lane.pace.tokens_in(lane.pace.step_seconds * (self._step_goal - 1))
        scheduler = lane.scheduler
        scheduler.token_budget = num_decoding + room
        begin, num_before = monotonic(), scheduler.num_tokens_read
        try:
            scheduler.step()
        except Exception:
            log.exception("a step of %s has failed; each request takes it alone", lane.served.name)
            self._step_alone(lane)
        seconds, num_read = monotonic() - begin, scheduler.num_tokens_read - num_before - num_decoding
        if not unread:
            lane.pace.add_step(seconds)
        else:
            lane.pace.add_tokens(num_read, max(seconds - lane.pace.step_seconds, 0.0) if num_decoding else seconds)
        self._deliver_tokens(lane)

    def _step_alone(self, lane: Lane) -> None:
        """Give each job a step by itself after a failed step, so that the job at fault fails alone."""
        for job in list(lane.running):
            alone = lane.served.model.new_scheduler(byte_budget=self._cache_bytes)
            try:
                for request in job.requests:
                    lane.scheduler.withdraw(request)
                    if not request.is_finished:
                        alone.add(request)
                alone.step()
            except Exception as error:
                lane.running.remove(job)
                self._finish(job, error)
                continue
            for request in job.requests:
                alone.withdraw(request)
                if not request.is_finished:
                    lane.scheduler.add(request)

    def _deliver_tokens(self, lane: Lane) -> None:
        for job in list(lane.running):
            tokens = [token for request in job.requests for token in request.take_tokens()]
            if tokens and job.on_tokens is not None:
                self._deliver(job.on_tokens, tokens)
            if is_over(job):
                self._end(lane, job)
                self._finish(job, next((each.error for each in job.requests if each.error is not None), None))

    def _end(self, lane: Lane, job: GenerationJob) -> None:
        lane.running.remove(job)
        for request in job.requests:
            if not request.is_finished:
                lane.scheduler.cancel(request)

    def _finish(self, job: Job, result: Any) -> None:
        job.ended = monotonic()
        if not job.is_cancelled:
            self._deliver(job.on_done, result)

    def _next_pass(self) -> Lane | None:
        """Choose the model whose first job of one pass has waited longest."""
        waiting = [(first.arrived, lane) for lane in self.lanes.values() if (first := lane.passes.first()) is not None]
        return min(waiting, key=lambda pair: pair[0])[1] if waiting else None

    def _pass(self, lane: Lane) -> None:
        """Run one batch of jobs that can share a pass, and give each job its rows."""
        streams = [other.pace.step_seconds for other in self.lanes.values() if other.running]
        room = lane.pace.tokens_in(min(streams) * (self._step_goal - 1)) if streams else TOKEN_BUDGET
        taken = self._take(lane, room)
        if not taken:
            return
        task, options = taken[0][0].task, taken[0][0].options
        batch = Batch.concatenate([part for _, part in taken])
        begin = monotonic()
        try:
            tensors = task.forward(batch, options)
        except Exception as error:
            if len(taken) == 1:
                self._fail_pass(lane, taken[0][0], error)
            else:
                self._pass_alone(lane, taken)
            return
        lane.pace.add_tokens(batch.num_rows, monotonic() - begin)
        first = 0
        for job, part in taken:
            rows = task.num_rows(part)
            self._add_tensors(lane, job, tensors[first : first + rows] if len(taken) > 1 else tensors)
            first += rows

    def _take(self, lane: Lane, room: int) -> list[tuple[PassJob, Batch]]:
        """Take the parts of the first job of a model, and of others with equal task and options, that fit into a pass.

        The first part is taken whatever its size.
        """
        first = lane.passes.first()
        if first is None:
            return []
        taken: list[tuple[PassJob, Batch]] = []
        for job in (first, *(job for job in lane.passes if job is not first and job.priority <= first.priority)):
            if job.task != first.task or job.options != first.options:
                continue
            for part in job.parts[len(job.tensors) :]:
                if taken and part.num_rows > room:
                    break
                taken.append((job, part))
                room -= part.num_rows
            if job.started is None and taken[-1][0] is job:
                job.started = monotonic()
            if room <= 0:
                break
        return taken

    def _pass_alone(self, lane: Lane, taken: list[tuple[PassJob, Batch]]) -> None:
        """Run each part of a failed batch alone, so that the job at fault fails alone."""
        failed: set[PassJob] = set()
        for job, part in taken:
            if job in failed:
                continue
            try:
                tensors = job.task.forward(part, job.options)
            except Exception as error:
                failed.add(job)
                self._fail_pass(lane, job, error)
            else:
                self._add_tensors(lane, job, tensors)

    def _add_tensors(self, lane: Lane, job: PassJob, tensors: Any) -> None:
        job.tensors.append(tensors)
        if len(job.tensors) == len(job.parts):
            lane.passes.remove(job, is_served=True)
            self._finish(job, _joined(job.tensors))

    def _fail_pass(self, lane: Lane, job: PassJob, error: Exception) -> None:
        lane.passes.remove(job, is_served=True)
        self._finish(job, error)
