"""What is read once: the common beginning of prompts, and the past of a conversation."""

from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

import triform
from tests.generation.reference import EOS, Pair, pair
from tests.parity.cases import llama
from tests.parity.harness import Case, make_checkpoint, random_ids
from triform import Batch, Session
from triform.errors import InputError, NonFiniteError

__all__ = ["pair"]

CASE = Case(name="llama", model="LlamaForCausalLM", config=llama)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    make_checkpoint(CASE, path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> triform.Model:
    return triform.load(folder)


@pytest.fixture
def read(model: triform.Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each pass has read."""
    counts: list[int] = []
    forward = type(model.network).__call__

    def counted(network: Any, batch: Batch, **named: Any) -> Any:
        counts.append(len(batch.ids))
        return forward(network, batch, **named)

    monkeypatch.setattr(type(model.network), "__call__", counted)
    return counts


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1, "num_return_sequences": 2}])
def test_a_common_beginning_is_read_once(model: triform.Model, read: list[int], settings: dict[str, Any]) -> None:
    [beginning, *ends] = random_ids(CASE, lengths=(70, 5, 1, 9))
    prompts = [beginning + end for end in ends]
    together = model.generate(Batch.from_ids(prompts), max_new_tokens=8, eos_token_id=EOS, **settings)
    assert read[:2] == [70, 15]
    alone = [model.generate(Batch.from_ids([p]), max_new_tokens=8, eos_token_id=EOS, **settings) for p in prompts]
    assert together == [ids for each in alone for ids in each]


def test_of_equal_prompts_the_last_token_is_read_by_each(model: triform.Model, read: list[int]) -> None:
    [prompt] = random_ids(CASE, lengths=(50,))
    model.generate(Batch.from_ids([prompt, prompt, prompt[:45]]), max_new_tokens=1)
    assert read == [44, 6 + 6 + 1]


def test_too_short_a_beginning_is_not_worth_a_pass(model: triform.Model, read: list[int]) -> None:
    model.generate(Batch.from_ids([[5, 6, 7], [5, 6, 8]]), max_new_tokens=1)
    assert read == [6]


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"do_sample": True, "seed": 4}], ids=str)
def test_a_conversation_reads_what_is_new(model: triform.Model, read: list[int], settings: dict[str, Any]) -> None:
    session = Session()
    conversation: list[int] = []
    for turn in range(4):
        said = random_ids(CASE, lengths=(20,), seed=turn)[0]
        conversation += said
        batch = Batch.from_ids([conversation])
        read.clear()
        [answer] = model.generate(batch, session=session, max_new_tokens=10, eos_token_id=[], **settings)
        reused = len(conversation) - read[0]
        assert session.num_reused == reused
        if turn and not settings.get("num_beams"):
            # All but the last token of the answer, which nobody had to read.
            assert read[0] == 20 + 1
        assert [answer] == model.generate(batch, max_new_tokens=10, eos_token_id=[], **settings)
        conversation += answer


def test_what_was_taken_back_is_forgotten(model: triform.Model) -> None:
    session = Session()
    first, second = random_ids(CASE, lengths=(60, 60))
    for prompt, reused in ((first, 0), (first[:40] + second[:5], 40), (first, 40), (second, 0), (second, 59)):
        batch = Batch.from_ids([prompt])
        answer = model.generate(batch, session=session, max_new_tokens=5)
        assert session.num_reused == reused
        assert answer == model.generate(batch, max_new_tokens=5)


def test_an_answer_broken_off_is_remembered(model: triform.Model) -> None:
    session = Session()
    [prompt] = random_ids(CASE, lengths=(40,))
    stream = model.stream(Batch.from_ids([prompt]), session=session, eos_token_id=[])
    said = [next(stream).id for _ in range(6)]
    with pytest.raises(InputError, match="another call still uses it"):
        model.generate(Batch.from_ids([prompt]), session=session)
    stream.close()
    going_on = Batch.from_ids([[*prompt, *said]])
    assert model.generate(going_on, session=session, max_new_tokens=3) == model.generate(going_on, max_new_tokens=3)
    assert session.num_reused == 45


def test_after_a_slide_the_conversation_is_read_anew(model: triform.Model) -> None:
    session = Session()
    [prompt] = random_ids(CASE, lengths=(250,))
    settings: dict[str, Any] = {"max_new_tokens": 20, "eos_token_id": [], "at_context_end": "slide"}
    [answer] = model.generate(Batch.from_ids([prompt]), session=session, **settings)
    model.generate(Batch.from_ids([prompt]), session=session, max_new_tokens=2)
    assert session.num_reused == 0
    assert [answer] == model.generate(Batch.from_ids([prompt]), session=session, **settings)


def test_a_failure_leaves_a_session_that_works(model: triform.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    batch = Batch.from_ids(random_ids(CASE, lengths=(40,)))
    expected = model.generate(batch, session=session, max_new_tokens=5)
    with monkeypatch.context() as broken:
        broken.setattr(model.engine, "top_log_probabilities", lambda x, k: (np.full((1, 1), np.nan), np.zeros((1, 1))))
        with pytest.raises(NonFiniteError):
            model.generate(batch, session=session, max_new_tokens=5)
    assert model.generate(batch, session=session, max_new_tokens=5) == expected


def test_one_conversation_of_one_model(model: triform.Model, folder: Path, pair: Pair) -> None:
    session = Session()
    with pytest.raises(InputError, match="expected one prompt, got 2"):
        model.generate(Batch.from_ids([[5], [6]]), session=session)
    batch = Batch.from_ids([list(range(3, 60))])
    expected = model.generate(batch, session=session, max_new_tokens=2)
    with pytest.raises(InputError, match="began with another model"):
        triform.load(folder).generate(batch, session=session)
    assert model.generate(batch, session=session, max_new_tokens=2) == expected
    assert session.num_reused == 56
    if not pair.is_decoder:
        with pytest.raises(InputError, match="a model of two stacks has no conversation"):
            pair.model.generate(batch, session=session)


def test_threads_have_sessions_of_their_own(model: triform.Model) -> None:
    prompts = random_ids(CASE, lengths=(40, 50, 60, 70))
    expected = [model.generate(Batch.from_ids([prompt]), max_new_tokens=20) for prompt in prompts]
    answers: dict[int, Any] = {}

    def talk(place: int) -> None:
        session = Session()
        for _ in range(3):
            answers[place] = model.generate(Batch.from_ids([prompts[place]]), session=session, max_new_tokens=20)

    threads = [Thread(target=talk, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[place] for place in range(4)] == expected
