"""The executor: shared passes, turns, cancelling, and one bad job that hurts no other."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from triform.errors import NonFiniteError
from triform.generation import GeneratedToken, Scheduler
from triform.inputs import Batch
from triform.serving.executor import Executor
from triform.serving.fair_queue import FairQueue
from triform.serving.jobs import GenerationJob, PassJob
from triform.serving.models import Registry, ServedModel

TEXTS = ["A cat sat on the mat.", "Wonderful!", "The room was small, but the staff were wonderful.", "No."]


@pytest.fixture
def executor(registry: Registry) -> Iterator[Executor]:
    executor = Executor(list(registry.models.values()), lambda call, value: call(value))
    executor.start()
    yield executor
    executor.stop()


class Outcome:
    """Waits for the result of a job."""

    def __init__(self) -> None:
        self.result: Any = None
        self.tokens: list[GeneratedToken] = []
        self._is_done = threading.Event()

    def done(self, result: Any) -> None:
        self.result = result
        self._is_done.set()

    def wait(self) -> Any:
        assert self._is_done.wait(30)
        return self.result


def classify(served: ServedModel, text: str, outcome: Outcome, **fields: Any) -> PassJob:
    task = served.main_task
    batch = task.preprocess([text], task.options)
    return PassJob(
        served=served,
        num_tokens=batch.num_rows,
        on_done=outcome.done,
        task=task,
        options=task.options,
        parts=[batch],
        **fields,
    )


def write(
    served: ServedModel, ids: list[int], outcome: Outcome, *, num_new: int = 20, **settings: Any
) -> GenerationJob:
    requests = served.model.new_requests(Batch.from_ids([ids]), max_new_tokens=num_new, **settings)
    return GenerationJob(
        served=served, num_tokens=num_new, on_done=outcome.done, on_tokens=outcome.tokens.extend, requests=requests
    )


def test_jobs_of_one_pass_get_their_own_rows(executor: Executor, registry: Registry) -> None:
    served = registry.models["sentiment"]
    outcomes = [Outcome() for _ in range(40)]
    for number, outcome in enumerate(outcomes):
        executor.submit(classify(served, TEXTS[number % 4], outcome))
    for number, outcome in enumerate(outcomes):
        task = served.main_task
        expected = task.forward(task.preprocess([TEXTS[number % 4]], task.options), task.options)
        assert np.array_equal(outcome.wait(), expected)


def test_generation_beside_other_jobs_gives_the_lone_tokens(executor: Executor, registry: Registry) -> None:
    story = registry.models["story"]
    outcomes = [Outcome() for _ in range(12)]
    for number, outcome in enumerate(outcomes):
        executor.submit(write(story, [5 + number, 7, 9], outcome, seed=number))
        executor.submit(classify(registry.models["sentiment"], TEXTS[number % 4], Outcome()))
    for number, outcome in enumerate(outcomes):
        assert outcome.wait() is None
        [expected] = story.model.generate(Batch.from_ids([[5 + number, 7, 9]]), max_new_tokens=20, seed=number)
        assert [token.id for token in outcome.tokens] == expected


def test_a_cancelled_job_gives_its_pages_back(executor: Executor, registry: Registry) -> None:
    story, outcome, begun = registry.models["story"], Outcome(), threading.Event()
    job = write(story, [5, 6, 7], outcome, num_new=290, min_new_tokens=290)
    job.on_tokens = lambda _: begun.set()
    executor.submit(job)
    assert begun.wait(30)
    executor.cancel(job)
    after = Outcome()
    executor.submit(write(story, [8, 9], after, num_new=2))
    after.wait()
    lane = executor.lanes["story"]
    assert not lane.running
    assert lane.scheduler.pool.num_users.sum() == 0
    assert outcome.result is None


def test_a_waiting_job_can_be_cancelled(registry: Registry) -> None:
    executor = Executor(list(registry.models.values()), lambda call, value: call(value))
    story, dropped, kept = registry.models["story"], Outcome(), Outcome()
    first, second = write(story, [5], dropped), write(story, [6], kept)
    executor.submit(first)
    executor.submit(second)
    executor.cancel(first)
    executor.start()
    kept.wait()
    executor.stop()
    assert dropped.tokens == []


def fail_once(error: Exception, wanted: Callable[[Any], bool]) -> Callable[..., Any]:
    step = Scheduler.step

    def failing(scheduler: Scheduler) -> Any:
        if any(wanted(request) for request in [*scheduler._waiting, *scheduler._running.requests]):
            raise error
        return step(scheduler)

    return failing


def test_a_request_that_breaks_a_step_fails_alone(
    executor: Executor, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = fail_once(RuntimeError("broken"), lambda request: request.prompt[0] == 666)
    monkeypatch.setattr(Scheduler, "step", failing)
    story = registry.models["story"]
    outcomes = {number: Outcome() for number in (5, 666, 7)}
    for number, outcome in outcomes.items():
        executor.submit(write(story, [number, 9], outcome, seed=1))
    results = {number: outcome.wait() for number, outcome in outcomes.items()}
    assert isinstance(results[666], RuntimeError)
    assert results[5] is None
    monkeypatch.undo()
    for number in (5, 7):
        [expected] = story.model.generate(Batch.from_ids([[number, 9]]), max_new_tokens=20, seed=1)
        assert [token.id for token in outcomes[number].tokens] == expected


def test_a_batch_that_breaks_a_pass_fails_alone(
    executor: Executor, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = registry.models["sentiment"]
    task = served.main_task
    forward = type(task).forward

    def failing(self: Any, batch: Batch, options: Any) -> Any:
        if any("No." in source.text for source in batch.sources):  # type: ignore[attr-defined]
            raise NonFiniteError("broken")
        return forward(self, batch, options)

    monkeypatch.setattr(type(task), "forward", failing)
    outcomes = [Outcome() for _ in TEXTS]
    for text, outcome in zip(TEXTS, outcomes, strict=True):
        executor.submit(classify(served, text, outcome))
    results = [outcome.wait() for outcome in outcomes]
    assert [isinstance(result, NonFiniteError) for result in results] == [text == "No." for text in TEXTS]


class Item:
    def __init__(self, owner: str, num_tokens: int = 10, priority: int = 0) -> None:
        self.owner, self.num_tokens, self.priority = owner, num_tokens, priority


def drain(queue: FairQueue[Item]) -> list[Item]:
    taken = []
    while (item := queue.first()) is not None:
        queue.remove(item, is_served=True)
        taken.append(item)
    return taken


def test_a_flood_of_one_owner_delays_no_other() -> None:
    queue: FairQueue[Item] = FairQueue()
    for _ in range(100):
        queue.add(Item("flood"))
    queue.add(Item("small"))
    assert [item.owner for item in drain(queue)].index("small") <= 1
    assert len(queue) == 0


def test_owners_take_turns_by_tokens() -> None:
    queue: FairQueue[Item] = FairQueue()
    for _ in range(10):
        queue.add(Item("long", num_tokens=30))
        queue.add(Item("short", num_tokens=10))
    owners = [item.owner for item in drain(queue)][:8]
    assert owners.count("short") == 3 * owners.count("long")


def test_an_owner_who_was_away_gets_no_credit() -> None:
    queue: FairQueue[Item] = FairQueue()
    for _ in range(50):
        queue.add(Item("busy"))
    for _ in range(40):
        queue.remove(queue.first(), is_served=True)  # type: ignore[arg-type]
    for _ in range(5):
        queue.add(Item("new"))
    owners = [item.owner for item in drain(queue)]
    assert owners[:10].count("busy") >= 4


def test_lower_priority_values_go_first() -> None:
    queue: FairQueue[Item] = FairQueue()
    for priority in (5, 0, -3, 0):
        queue.add(Item("a", priority=priority))
    assert [item.priority for item in drain(queue)] == [-3, 0, 0, 5]
