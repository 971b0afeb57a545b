"""Sampling: the probabilities follow the settings, and the draws of a sequence are independent of the batch."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

import triform
from tests import checkpoints
from tests.parity.cases import llama
from tests.parity.harness import Case, make_checkpoint
from triform import Batch
from triform.generation.config import GenerationConfig
from triform.generation.processors import softmax, warp
from triform.generation.sampling import draw, sequence_keys, uniform

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [5, 6, 7]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> triform.Model:
    folder: Path = tmp_path_factory.mktemp("llama")
    make_checkpoint(Case(name="llama", model="LlamaForCausalLM", config=llama), folder)
    return triform.load(folder)


def sample(model: triform.Model, prompts: list[list[int]], **settings: Any) -> list[list[int]]:
    return model.generate(Batch.from_ids(prompts), do_sample=True, max_new_tokens=12, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 0},
        {"top_k": 0, "temperature": 0.5},
        {"top_k": 7, "temperature": 2.0},
        {"top_k": 0, "top_p": 0.8},
        {"top_k": 0, "min_p": 0.1},
        {"top_k": 20, "top_p": 0.9, "min_p": 0.05, "temperature": 1.5},
    ],
    ids=str,
)
def test_draws_follow_the_probabilities(settings: dict[str, Any]) -> None:
    logits = np.random.default_rng(1).normal(0, 1.5, (1, 40)).astype(np.float32)
    warped = warp(logits, GenerationConfig(do_sample=True, **settings))
    probabilities = softmax(warped.astype(np.float64))[0]
    batch = Batch.from_ids([[1, 2, 3]])
    for keys in (
        [sequence_keys(batch, 1, seed)[0] for seed in range(20_000)],
        sequence_keys(batch, 20_000, 0),
    ):
        drawn = draw(np.repeat(warped, len(keys), axis=0), [uniform(key, 3) for key in keys])
        counts = np.bincount(drawn, minlength=40)
        possible = probabilities > 0
        assert not counts[~possible].any()
        expected = probabilities[possible] * len(keys)
        # Rare tokens share a bin, so that the approximation holds.
        rare = expected < 5
        observed = np.append(counts[possible][~rare], counts[possible][rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        if expected[-1] == 0:
            observed, expected = observed[:-1], expected[:-1]
        if len(expected) > 1:
            assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_a_model_draws_what_its_logits_say(model: triform.Model) -> None:
    logits = np.asarray(model(Batch.from_ids([[8]])).logits)
    probabilities = softmax(np.sort(logits)[:, -5:].astype(np.float64))[0]
    order = np.argsort(logits[0])[-5:].tolist()
    answers = model.generate(
        Batch.from_ids([[8]]), do_sample=True, top_k=5, max_new_tokens=1, num_return_sequences=4000, seed=5
    )
    counts = [sum(ids == [token] for ids in answers) for token in order]
    assert sum(counts) == 4000
    assert scipy.stats.chisquare(counts, probabilities * 4000).pvalue > 1e-3


def test_steps_and_sequences_draw_independently() -> None:
    keys = sequence_keys(Batch.from_ids([[ids] for ids in range(300)]), 1, 0)
    numbers = np.array([[uniform(key, step) for step in range(300)] for key in keys])
    assert scipy.stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    neighbours = [numbers[1:] * numbers[:-1], numbers[:, 1:] * numbers[:, :-1]]
    # The product of two independent uniform numbers has mean 1/4 and variance 7/144.
    assert all(abs(each.mean() - 0.25) < 4 * (7 / 144 / each.size) ** 0.5 for each in neighbours)


def test_the_same_seed_alone_and_in_a_batch(model: triform.Model) -> None:
    together = sample(model, PROMPTS, seed=7)
    assert together == sample(model, PROMPTS, seed=7)
    assert together != sample(model, PROMPTS, seed=8)
    assert together[:3] == [sample(model, [prompt], seed=7)[0] for prompt in PROMPTS[:3]]
    assert [together[2], together[0], together[3]] == sample(model, [PROMPTS[2], PROMPTS[0], PROMPTS[3]], seed=7)
    # The rest may end early.
    ends = list(range(0, 120, 5))
    for ids, whole in zip(sample(model, PROMPTS, seed=7, eos_token_id=ends), together, strict=True):
        end = next((place for place, token in enumerate(whole) if token in ends), 11)
        assert ids == whole[: end + 1]


def test_answers_to_a_prompt_differ_and_equal_prompts_have_equal_answers(model: triform.Model) -> None:
    several = sample(model, [PROMPTS[0], PROMPTS[1]], seed=7, num_return_sequences=3)
    assert len(set(map(tuple, several))) == 6
    assert sample(model, [PROMPTS[0]] * 3, seed=7) == [several[0]] * 3
    assert several[3:] == sample(model, [PROMPTS[1]], seed=7, num_return_sequences=3)


def test_without_a_seed_equal_prompts_have_different_answers(model: triform.Model) -> None:
    assert len(set(map(tuple, sample(model, [PROMPTS[0]] * 5)))) == 5


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"num_return_sequences": 2}], ids=str)
def test_a_pipeline_draws_the_same_in_any_batch(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path)
    pipe = triform.pipeline("text-generation", folder, do_sample=True, seed=3, max_new_tokens=8, **settings)
    rows = ["the cat", "the sea", "the cat", "the cat", "a"]
    alone = [pipe(row) for row in rows]
    for budget in (1, 4, 7, 10_000):
        assert pipe(rows, token_budget=budget) == alone
    assert list(pipe(iter(rows), token_budget=5)) == alone


def test_without_a_seed_each_call_is_new(model: triform.Model) -> None:
    assert sample(model, PROMPTS) != sample(model, PROMPTS)


def test_the_extremes_of_a_number_choose_possible_tokens() -> None:
    logits = np.array([[-np.inf, 0, -np.inf, 0, -np.inf]], np.float32)
    assert draw(np.repeat(logits, 3, axis=0), [0.0, 0.5, np.nextafter(1, 0)]) == [1, 3, 3]


def test_draws_are_a_function_of_key_and_step() -> None:
    places = [(key, step) for key in (0, 1, 2**64, 2**128 - 1) for step in (0, 1, 7, 2**40)]
    expected = [np.random.Generator(np.random.Philox(key=key, counter=step << 128)).random() for key, step in places]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            assert list(threads.map(lambda place: uniform(*place), places)) == expected
