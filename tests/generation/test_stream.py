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
    for sequence, token, log_probability, _ in streamed:
        gathered[sequence].append(token)
        steps.append((len(gathered[sequence]), sequence))
        assert log_probability is None
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
