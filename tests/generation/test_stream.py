"""Tokens arrive one at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests.generation.reference import EOS, Pair, pair
from triform import Batch
from triform.errors import InputError

__all__ = ["pair"]

PROMPTS = Batch.from_ids([[5, 6, 7], [8], [9, 10, 11, 12]])


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "seed": 3, "num_return_sequences": 2}], ids=str)
def test_the_tokens_of_generate_step_by_step(pair: Pair, settings: dict[str, object]) -> None:
    arguments = {"max_new_tokens": 10, "eos_token_id": EOS, **settings}
    streamed = list(pair.model.stream(PROMPTS, **arguments))  # type: ignore[arg-type]
    expected = pair.model.generate(PROMPTS, **arguments)  # type: ignore[arg-type]
    gathered: list[list[int]] = [[] for _ in expected]
    steps = []
    for token in streamed:
        gathered[token.sequence].append(token.id)
        steps.append((len(gathered[token.sequence]), token.sequence))
        assert token.log_probability is None
        assert token.alternatives == ()
    assert gathered == expected
    assert steps == sorted(steps)


def test_log_probabilities_are_the_models_own(pair: Pair) -> None:
    if not pair.is_decoder:
        pytest.skip("one form is enough")
    prompt = [5, 6, 7]
    settings = {"repetition_penalty": 1.5, "log_probabilities": True, "max_new_tokens": 5}
    streamed = list(pair.model.stream(Batch.from_ids([prompt]), **settings))  # type: ignore[arg-type]
    ids = [token.id for token in streamed]
    logits = np.asarray(pair.model(Batch.from_ids([prompt + ids])).logits, np.float64)[2:-1]
    expected = logits[np.arange(5), ids] - np.log(np.exp(logits).sum(axis=-1))
    np.testing.assert_allclose(np.array([token.log_probability for token in streamed], float), expected, atol=1e-5)


def test_closing_ends_the_work(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    network: Any = type(pair.model.network)
    decode = network.decode

    def counted(*given: object, **named: object) -> object:
        calls.append(given)
        return decode(*given, **named)

    monkeypatch.setattr(network, "decode", counted)
    stream = pair.model.stream(PROMPTS, max_new_tokens=50, eos_token_id=[])
    assert not calls
    assert [next(stream).sequence for _ in range(4)] == [0, 1, 2, 0]
    assert len(calls) == 2
    stream.close()
    assert list(stream) == []
    assert len(calls) == 2


def test_faults_are_said_before_the_first_token(pair: Pair, minilm: Path) -> None:
    with pytest.raises(InputError, match="num_beams=2: beams cannot be streamed"):
        pair.model.stream(PROMPTS, num_beams=2)
    with pytest.raises(InputError, match="temperature=0"):
        pair.model.stream(PROMPTS, temperature=0)
    with pytest.raises(triform.TriformError, match="generate needs a decoder"):
        triform.load(minilm).stream(PROMPTS)


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "seed": 3, "num_return_sequences": 2}], ids=str)
def test_alternatives_are_the_most_probable_tokens(pair: Pair, settings: dict[str, Any]) -> None:
    arguments = {"max_new_tokens": 5, "eos_token_id": [], "logit_bias": {9: 50.0}, **settings}
    count = 4
    requests = pair.model.new_requests(PROMPTS, log_probabilities=True, num_alternatives=count, **arguments)
    completions = pair.model.complete_requests(requests)
    assert [each.ids for each in completions] == pair.model.generate(PROMPTS, **arguments)
    for number, whole in enumerate(completions):
        assert len(whole.alternatives) == 5
        if not pair.is_decoder:
            continue
        prompt = PROMPTS.slice(number // (len(completions) // 3), number // (len(completions) // 3) + 1).ids.tolist()
        logits = np.asarray(pair.model(Batch.from_ids([prompt + whole.ids])).logits)[len(prompt) - 1 : -1]
        known = pair.model.engine.log_softmax(logits)
        for row, chosen, value, found in zip(
            known, whole.ids, whole.log_probabilities or (), whole.alternatives, strict=True
        ):
            best = np.argsort(-row, kind="stable")[:count]
            assert [token for token, _ in found] == best.tolist()
            assert [value for _, value in found] == row[best].tolist()
            assert dict(found).get(chosen, value) == value == row[chosen]


def test_alternatives_of_equal_logits_are_in_the_order_of_ids(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from triform.generation.choice import most_probable

    logits = np.array([[1, 2, 2, 2, 0], [0, 0, 0, 0, 0], [5, 0, 0, 0, 5]], np.float32)
    best = most_probable(pair.model.engine, logits, [3, 0, 9])
    assert [[token for token, _ in row] for row in best] == [[1, 2, 3], [], [0, 4, 1, 2, 3]]


def test_alternatives_of_one_request_change_no_other(pair: Pair) -> None:
    settings = {"max_new_tokens": 6, "eos_token_id": [], "log_probabilities": True}
    alone = [pair.model.complete(PROMPTS.slice(place, place + 1), **settings)[0] for place in range(3)]  # type: ignore[arg-type]
    requests = [
        request
        for place, count in enumerate((0, 20, 2))
        for request in pair.model.new_requests(PROMPTS.slice(place, place + 1), num_alternatives=count, **settings)  # type: ignore[arg-type]
    ]
    found = pair.model.complete_requests(requests)
    assert [each.ids for each in found] == [each.ids for each in alone]
    assert [each.log_probabilities for each in found] == [each.log_probabilities for each in alone]
    assert [{len(row) for row in each.alternatives} for each in found] == [set(), {20}, {2}]
    assert [row[:2] for row in found[1].alternatives] == [
        row
        for request in pair.model.new_requests(PROMPTS.slice(1, 2), num_alternatives=2, **settings)  # type: ignore[arg-type]
        for row in pair.model.complete_requests([request])[0].alternatives
    ]


@pytest.mark.parametrize("count", [-1, 21, 1.5, True, None])
def test_an_impossible_number_of_alternatives_is_refused(pair: Pair, count: Any) -> None:
    with pytest.raises(InputError, match=r"num_alternatives=.*: expected a whole number of at least 0 and at most 20"):
        pair.model.new_requests(PROMPTS, num_alternatives=count)


def test_beams_have_no_alternatives(pair: Pair) -> None:
    with pytest.raises(InputError, match="num_alternatives=1: beam search weighs sequences"):
        pair.model.new_requests(PROMPTS, num_alternatives=1, num_beams=2)
