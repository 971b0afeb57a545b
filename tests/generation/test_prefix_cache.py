"""The prefix cache: prompts with a common beginning, and conversations, are read once."""

from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

import triform
from tests.generation.reference import EOS
from tests.parity.cases import llama
from tests.parity.harness import Case, make_checkpoint, random_ids
from triform import Batch
from triform.errors import NonFiniteError

CASE = Case(name="llama", model="LlamaForCausalLM", config=llama)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    make_checkpoint(CASE, path)
    return path


@pytest.fixture
def model(folder: Path) -> triform.Model:
    """Load a model with an empty prefix cache."""
    return triform.load(folder)


def alone(folder: Path, prompt: list[int], **settings: Any) -> list[list[int]]:
    """Return the answers of a newly loaded model."""
    return triform.load(folder).generate(Batch.from_ids([prompt]), **settings)


@pytest.fixture
def read(model: triform.Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of tokens of each pass."""
    counts: list[int] = []
    forward = type(model.network).__call__

    def counted(network: Any, batch: Batch, **named: Any) -> Any:
        counts.append(len(batch.ids))
        return forward(network, batch, **named)

    monkeypatch.setattr(type(model.network), "__call__", counted)
    return counts


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1, "num_return_sequences": 2}])
def test_a_common_beginning_is_read_once(
    folder: Path, model: triform.Model, read: list[int], settings: dict[str, Any]
) -> None:
    [beginning, *ends] = random_ids(CASE, lengths=(70, 5, 1, 9))
    prompts = [beginning + end for end in ends]
    settings = {"max_new_tokens": 8, "eos_token_id": EOS, **settings}
    together = model.generate(Batch.from_ids(prompts), **settings)
    # The model reads the first prompt whole, and the rest from the last full page on: 64 of 70 common tokens.
    assert read[0] == 75
    assert sum(read[1:3]) < 7 + 15 + 2 * 3 * 3
    assert model._scheduler(None).pool.num_reused_tokens == 2 * 64
    assert together == [ids for prompt in prompts for ids in alone(folder, prompt, **settings)]


def test_too_short_a_beginning_is_read_again(model: triform.Model, read: list[int]) -> None:
    model.generate(Batch.from_ids([[5, 6, 7], [5, 6, 8]]), max_new_tokens=1)
    assert read == [6]


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"do_sample": True, "seed": 4}], ids=str)
def test_a_conversation_reads_what_is_new(
    folder: Path, model: triform.Model, read: list[int], settings: dict[str, Any]
) -> None:
    conversation: list[int] = []
    for turn in range(4):
        conversation += random_ids(CASE, lengths=(20,), seed=turn)[0]
        read.clear()
        [answer] = model.generate(Batch.from_ids([conversation]), max_new_tokens=10, eos_token_id=[], **settings)
        if turn and not settings.get("num_beams"):
            # All but the last token of the answer: the model has not read the last token.
            assert read[0] == 20 + 1
        assert [answer] == alone(folder, conversation, max_new_tokens=10, eos_token_id=[], **settings)
        conversation += answer


def test_a_prompt_that_goes_another_way_shares_what_is_common(
    folder: Path, model: triform.Model, read: list[int]
) -> None:
    first, second = random_ids(CASE, lengths=(60, 60))
    for prompt, reused in ((first, 0), (first[:40] + second[:5], 40), (first, 59), (second, 0), (second, 59)):
        read.clear()
        answer = model.generate(Batch.from_ids([prompt]), max_new_tokens=5)
        assert len(prompt) - read[0] == reused
        assert answer == alone(folder, prompt, max_new_tokens=5)


def test_an_answer_broken_off_is_remembered(folder: Path, model: triform.Model, read: list[int]) -> None:
    [prompt] = random_ids(CASE, lengths=(40,))
    stream = model.stream(Batch.from_ids([prompt]), eos_token_id=[])
    said = [next(stream).id for _ in range(26)]
    stream.close()
    read.clear()
    going_on = [*prompt, *said]
    assert model.generate(Batch.from_ids([going_on]), max_new_tokens=3) == alone(folder, going_on, max_new_tokens=3)
    # Two pages were full, and the third has too few rows to be worth a copy.
    assert read[0] == len(going_on) - 64


def test_after_a_slide_the_beginning_is_found_again(folder: Path, model: triform.Model) -> None:
    [prompt] = random_ids(CASE, lengths=(250,))
    settings: dict[str, Any] = {"max_new_tokens": 20, "eos_token_id": [], "at_context_end": "slide"}
    for _ in range(3):
        assert model.generate(Batch.from_ids([prompt]), **settings) == alone(folder, prompt, **settings)


def test_a_failure_leaves_a_model_that_works(
    folder: Path, model: triform.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    [prompt] = random_ids(CASE, lengths=(40,))
    with monkeypatch.context() as broken:
        broken.setattr(model.engine, "top_log_probabilities", lambda x, k: (np.full((1, 1), np.nan), np.zeros((1, 1))))
        with pytest.raises(NonFiniteError):
            model.generate(Batch.from_ids([prompt]), max_new_tokens=5)
    assert model.generate(Batch.from_ids([prompt]), max_new_tokens=5) == alone(folder, prompt, max_new_tokens=5)


def test_threads_share_passes_and_prefixes(folder: Path, model: triform.Model) -> None:
    [beginning, *ends] = random_ids(CASE, lengths=(40, 10, 20, 30, 5))
    prompts = [beginning + end for end in ends]
    expected = [alone(folder, prompt, max_new_tokens=20) for prompt in prompts]
    answers: dict[int, Any] = {}

    def talk(place: int) -> None:
        for _ in range(3):
            answers[place] = model.generate(Batch.from_ids([prompts[place]]), max_new_tokens=20)

    threads = [Thread(target=talk, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[place] for place in range(4)] == expected
