"""Continuous batching never changes an answer: random schedules of requests against each request alone, bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig

import triform
from tests.generation.reference import EOS
from tests.parity.cases import LLAMA, llama, of, t5
from tests.parity.harness import Case, make_checkpoint
from triform import Batch
from triform.generation import Completion, Request, Scheduler

CONTEXT = 96


@dataclass(frozen=True)
class Subject:
    """A model to schedule."""

    name: str
    model: str
    config: Callable[[], Any]
    dtype: str = "auto"


SUBJECTS = [
    Subject("decoder", "LlamaForCausalLM", lambda: llama(num_key_value_heads=2, max_position_embeddings=CONTEXT)),
    Subject("window", "MistralForCausalLM", of(MistralConfig, LLAMA, sliding_window=20, num_key_value_heads=2)),
    Subject("encoder-decoder", "T5ForConditionalGeneration", t5),
    Subject("int8", "LlamaForCausalLM", lambda: llama(max_position_embeddings=CONTEXT), "int8"),
    Subject("int4", "LlamaForCausalLM", lambda: llama(max_position_embeddings=CONTEXT), "int4"),
]

SETTINGS: list[dict[str, Any]] = [
    {"eos_token_id": EOS},
    {"eos_token_id": [], "repetition_penalty": 1.3},
    {"eos_token_id": EOS, "do_sample": True, "num_return_sequences": 3},
    {"eos_token_id": EOS, "num_beams": 3, "num_return_sequences": 2},
    {"eos_token_id": EOS, "num_beams": 2, "do_sample": True},
    {"eos_token_id": [], "min_new_tokens": 3, "no_repeat_ngram_size": 2},
]
"""Settings of requests; one call answers requests with equal settings."""


@dataclass(frozen=True)
class Asked:
    """A drawn request: the arrival step, and the cancellation step if any."""

    prompt: tuple[int, ...]
    settings: int
    max_new_tokens: int
    seed: int
    comes_at: int
    cancelled_after: int | None


prefixes = [tuple(range(3, 3 + length)) for length in (0, 30, 33, 64, 70)]
prompts = st.builds(
    lambda prefix, rest: (prefix + tuple(rest))[: CONTEXT - 12] or (5,),
    st.sampled_from(prefixes),
    st.lists(st.integers(2, 30), max_size=12),
)
asked = st.builds(
    Asked,
    prompt=prompts,
    settings=st.integers(0, len(SETTINGS) - 1),
    max_new_tokens=st.integers(3, 12),
    seed=st.integers(0, 3),
    comes_at=st.integers(0, 8),
    cancelled_after=st.none() | st.none() | st.integers(0, 8),
)


@pytest.fixture(scope="module", params=SUBJECTS, ids=lambda subject: subject.name)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> triform.Model:
    subject: Subject = request.param
    folder: Path = tmp_path_factory.mktemp(subject.name)
    make_checkpoint(Case(name=subject.name, model=subject.model, config=subject.config), folder)
    return triform.load(folder, engine="native", dtype=subject.dtype)


def request_of(model: triform.Model, each: Asked) -> Request:
    asked_for = {"max_new_tokens": each.max_new_tokens, "seed": each.seed, **SETTINGS[each.settings]}
    [request] = model.new_requests(Batch.from_ids([each.prompt]), log_probabilities=True, **asked_for)
    return request


def bits(completions: list[Completion]) -> list[Any]:
    """Return all of an answer, with floats as bits."""
    return [
        (each.ids, each.finish_reason, [x.hex() for x in each.log_probabilities or []], (each.score or 0.0).hex())
        for each in completions
    ]


def run(scheduler: Scheduler, model: triform.Model, schedule: list[Asked]) -> dict[Asked, list[Any]]:
    """Return every answer except the cancelled."""
    requests = {each: request_of(model, each) for each in schedule}
    step = 0
    while scheduler.has_work or any(each.comes_at >= step for each in schedule):
        for each, request in requests.items():
            if each.comes_at == step:
                scheduler.add(request)
            if each.cancelled_after is not None and step == each.comes_at + each.cancelled_after + 1:
                scheduler.cancel(request)
        scheduler.step()
        step += 1
    assert step < 2000, "a request starves"
    assert all(request.is_finished and request.error is None for request in requests.values())
    return {
        each: bits(request.completions)
        for each, request in requests.items()
        if each.cancelled_after is None and request.completions
    }


ALONE: dict[tuple[str, Asked], list[Any]] = {}


def alone(model: triform.Model, each: Asked) -> list[Any]:
    """Return the answer to a request without shared passes or pages."""
    key = (model.checkpoint.source, each)
    if key not in ALONE:
        request = request_of(model, each)
        for _ in model.new_scheduler().run([request]):
            pass
        ALONE[key] = bits(request.completions)
    return ALONE[key]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    schedule=st.lists(asked, min_size=1, max_size=7, unique_by=lambda each: (each.prompt, each.seed)),
    token_budget=st.sampled_from([1, 7, 40, 2048]),
    num_pages=st.none() | st.integers(16, 40),
)
def test_answers_are_those_of_each_request_alone(
    model: triform.Model, schedule: list[Asked], token_budget: int, num_pages: int | None
) -> None:
    page_bytes = model.new_scheduler().pool.store.page_bytes
    scheduler = model.new_scheduler(byte_budget=None if num_pages is None else num_pages * page_bytes)
    scheduler.token_budget = token_budget
    for each, found in run(scheduler, model, schedule).items():
        assert found == alone(model, each)
    # All pages have come back: no sequence uses one.
    assert not scheduler.pool.num_users.any()
