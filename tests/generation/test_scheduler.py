"""The scheduler under a budget, a long prompt and a failure, seen by the tokens of each step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests.parity.cases import llama
from tests.parity.harness import Case, make_checkpoint, random_ids
from triform import Batch
from triform.errors import InputError, NonFiniteError
from triform.generation import Request, Scheduler

CASE = Case(name="llama", model="LlamaForCausalLM", config=llama)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> triform.Model:
    folder: Path = tmp_path_factory.mktemp("llama")
    make_checkpoint(CASE, folder)
    return triform.load(folder)


def make_requests(model: triform.Model, lengths: tuple[int, ...], **settings: Any) -> list[Request]:
    settings = {"max_new_tokens": 40, "eos_token_id": [], **settings}
    return model.new_requests(Batch.from_ids(random_ids(CASE, lengths=lengths)), **settings)


def run(scheduler: Scheduler, requests: list[Request]) -> list[list[int]]:
    for _ in scheduler.run(requests):
        pass
    return [completion.ids for request in requests for completion in request.completions]


def budget(model: triform.Model, num_pages: int) -> int:
    return num_pages * model.new_scheduler().pool.store.page_bytes


def test_without_pages_the_youngest_waits_and_all_end(model: triform.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    preempted: list[int] = []
    preempt = Scheduler._preempt

    def seen(scheduler: Scheduler, requests: list[Request]) -> None:
        preempted.extend(request.order for request in requests)
        preempt(scheduler, requests)

    monkeypatch.setattr(Scheduler, "_preempt", seen)
    lengths = (30, 25, 28, 20)
    scheduler = model.new_scheduler(byte_budget=budget(model, 6))
    found = run(scheduler, make_requests(model, lengths))
    assert preempted
    assert 0 not in preempted
    assert found == run(model.new_scheduler(), make_requests(model, lengths))
    assert scheduler.pool.num_reused_tokens > 0  # the prefix cache kept the tokens of the preempted request
    assert len(scheduler.pool.num_users) <= 6


def test_a_request_that_never_fits_is_refused(model: triform.Model) -> None:
    scheduler = model.new_scheduler(byte_budget=budget(model, 3))
    [request] = make_requests(model, (100,))
    with pytest.raises(InputError, match=r"needs up to 6 pages of 32 tokens .* the byte budget allows 3"):
        scheduler.add(request)
    assert not scheduler.has_work


def test_a_long_prompt_is_read_between_the_steps_of_others(model: triform.Model) -> None:
    short, long = make_requests(model, (5, 200))
    scheduler = model.new_scheduler()
    scheduler.token_budget = 64
    scheduler.add(short)
    scheduler.step()
    scheduler.add(long)
    steps = 0
    while not long.tokens:
        before = len(short.tokens)
        scheduler.step()
        steps += 1
        assert len(short.tokens) == before + 1
    assert steps == 4  # 63 tokens of the prompt beside each token of the other


def test_a_failure_is_that_of_its_request(model: triform.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = make_requests(model, (5, 6, 7), max_new_tokens=4)
    best = model.engine.top_log_probabilities

    def broken(x: Any, k: int) -> Any:
        values, indices = best(x, k)
        return np.where(x[:, :1] == marked, np.nan, values), indices

    marked = np.asarray(model(Batch.from_ids([requests[1].prompt])).logits)[-1:, :1]
    monkeypatch.setattr(model.engine, "top_log_probabilities", broken)
    scheduler = model.new_scheduler()
    for request in requests:
        scheduler.add(request)
    while scheduler.has_work:
        scheduler.step()
    assert isinstance(requests[1].error, NonFiniteError)
    assert [len(request.tokens) for request in requests] == [4, 0, 4]


def test_pages_of_a_cancelled_request_come_back(model: triform.Model) -> None:
    scheduler = model.new_scheduler()
    first, second = make_requests(model, (50, 60))
    for request in (first, second):
        scheduler.add(request)
    scheduler.step()
    scheduler.cancel(first)
    assert np.count_nonzero(scheduler.pool.num_users) == 2
    scheduler.cancel(second)
    assert not scheduler.pool.num_users.any()
    assert not scheduler.has_work


def test_requests_that_begin_alike_read_their_prefix_once(model: triform.Model) -> None:
    [prompt] = random_ids(CASE, lengths=(80,))
    scheduler = model.new_scheduler()
    batch = Batch.from_ids([prompt, [*prompt[:70], 7, 8, 9], prompt[1:]])
    first, second, other = model.new_requests(batch, max_new_tokens=3, eos_token_id=[])
    for request in (first, second, other):
        scheduler.add(request)
    scheduler.step()
    # The second waits for the pages of the first; the third has a different beginning.
    assert [len(request.tokens) for request in (first, second, other)] == [1, 0, 1]
    scheduler.step()
    assert [len(request.tokens) for request in (first, second, other)] == [2, 1, 2]
    assert (first.num_cached_tokens, second.num_cached_tokens, other.num_cached_tokens) == (0, 64, 0)
