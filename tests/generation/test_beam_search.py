"""Beam search against `transformers`: ids and scores, prompts of unequal length in one batch."""

import gc
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import scipy.stats

from tests.generation.reference import EOS, Pair, pair
from tests.parity.harness import NEAR_TIE, random_ids
from triform import Batch
from triform.generation import Completion

__all__ = ["pair"]

LENGTHS = (5, 1, 17, 9)


def search(pair: Pair, prompts: list[list[int]], **settings: Any) -> list[Completion]:
    return pair.model.complete(Batch.from_ids(prompts), **settings)


def check(pair: Pair, prompts: list[list[int]], eos: list[int], **settings: Any) -> tuple[int, int]:
    """Return the number of equal answers, and the number of differences between answers of nearly equal scores."""
    settings = {"max_new_tokens": 12, "eos_token_id": eos, **settings}
    settings.setdefault("num_return_sequences", settings["num_beams"])
    actual = search(pair, prompts, **settings)
    output = pair.expect(prompts, do_sample=False, **settings)
    expected = pair.new_ids(output, max(map(len, prompts)), eos)
    scores = output.sequences_scores.numpy()
    assert len(actual) == len(expected)
    np.testing.assert_allclose(np.array([each.score for each in actual], float), scores, rtol=1e-4, atol=1e-4)
    equal = ties = 0
    per_prompt = settings["num_return_sequences"]
    for place, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        if ours.ids == theirs:
            equal += 1
            continue
        first = place // per_prompt * per_prompt
        neighbours = np.delete(scores[first : first + per_prompt], place - first)
        assert (np.abs(neighbours - scores[place]) < NEAR_TIE).any(), (place, ours, theirs, scores[place])
        ties += 1
    return equal, ties


@pytest.mark.slow
@pytest.mark.parametrize("early_stopping", [False, True, "never"], ids=str)
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.5, 2.5], ids=str)
def test_scores_and_ids(pair: Pair, early_stopping: Any, length_penalty: float) -> None:
    equal = ties = 0
    for seed, (num_beams, eos) in enumerate([(2, EOS), (4, EOS), (5, [1]), (3, list(range(1, 120, 30)))]):
        prompts = random_ids(pair.case, lengths=LENGTHS, seed=seed)
        settings = {"num_beams": num_beams, "early_stopping": early_stopping, "length_penalty": length_penalty}
        result = check(pair, prompts, eos, **settings)
        equal, ties = equal + result[0], ties + result[1]
    assert equal + ties == 4 * (2 + 4 + 5 + 3)
    assert ties <= 2


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2, "suppress_tokens": [0]},
        {
            "bad_words_ids": [[5], [33], [0], *([first, 7] for first in range(120))],
            "renormalize_logits": True,
            "forced_eos_token_id": 1,
        },
        {"min_new_tokens": 6, "begin_suppress_tokens": list(range(40, 80))},
        {"forced_eos_token_id": 1, "length_penalty": 0.5},
        {"num_return_sequences": 1},
        {"max_new_tokens": 1},
        # Over more steps, transformers differs with itself: padding changes the rounding, and beams are close.
        {"max_new_tokens": 30, "early_stopping": "never", "length_penalty": 2.0},
    ],
    ids=str,
)
def test_with_other_settings(pair: Pair, settings: dict[str, Any]) -> None:
    for seed in range(2):
        prompts = random_ids(pair.case, lengths=LENGTHS, seed=10 + seed)
        _, ties = check(pair, prompts, EOS, **{"num_beams": 3, **settings})
        assert ties <= 1


def test_a_forced_beginning(pair: Pair) -> None:
    check(pair, random_ids(pair.case, lengths=(1, 1), seed=3), EOS, num_beams=3, forced_bos_token_id=33)


def test_the_same_alone_and_in_a_batch(pair: Pair) -> None:
    prompts = random_ids(pair.case, lengths=(5, 40, 1, 17), seed=4)
    settings: dict[str, Any] = {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 30, "eos_token_id": EOS}
    together = pair.model.generate(Batch.from_ids(prompts), **settings)
    alone = [ids for prompt in prompts for ids in pair.model.generate(Batch.from_ids([prompt]), **settings)]
    assert together == alone


@pytest.mark.slow
def test_beams_drawn_by_their_probability(pair: Pair) -> None:
    """One step draws the first of two beams among all tokens, and the second among the rest."""
    prompt = Batch.from_ids([[5, 6, 7]])
    settings: dict[str, Any] = {"do_sample": True, "num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 1}
    settings |= {"top_k": 4, "temperature": 1.5, "eos_token_id": []}
    target = None if pair.is_decoder else Batch.from_ids([[0]])
    logits = np.asarray(pair.model(prompt, target).logits)[-1].astype(np.float64) / 1.5
    best = np.argsort(-logits)[:4].tolist()
    p = dict(zip(best, np.exp(logits[best]) / np.exp(logits[best]).sum(), strict=True))
    counts: Counter[frozenset[int]] = Counter()
    for seed in range(2000):
        answers = pair.model.complete(prompt, seed=seed, **settings)
        # Two of the four candidates end, and the better comes first.
        assert (answers[0].score or 0) >= (answers[1].score or 0)
        counts[frozenset(answer.ids[0] for answer in answers)] += 1
    pairs = list(combinations(best, 2))
    expected = [2000 * (p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])) for a, b in pairs]
    assert sum(counts.values()) == 2000
    assert scipy.stats.chisquare([counts[frozenset(each)] for each in pairs], expected).pvalue > 1e-3


def test_drawn_beams_are_the_same_alone_and_in_a_batch(pair: Pair) -> None:
    prompts = random_ids(pair.case, lengths=(5, 40, 1, 17), seed=4)
    settings: dict[str, Any] = {"num_beams": 3, "do_sample": True, "max_new_tokens": 15, "eos_token_id": EOS, "seed": 3}
    together = pair.model.generate(Batch.from_ids(prompts), **settings)
    assert together == [pair.model.generate(Batch.from_ids([prompt]), **settings)[0] for prompt in prompts]
    assert together != pair.model.generate(Batch.from_ids(prompts), **{**settings, "seed": 4})


def test_log_probabilities_add_up_to_the_score(pair: Pair) -> None:
    settings: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 9, "eos_token_id": EOS, "length_penalty": 0.0}
    for completion in search(pair, random_ids(pair.case, lengths=LENGTHS), log_probabilities=True, **settings):
        assert completion.log_probabilities is not None
        assert len(completion.log_probabilities) == len(completion.ids)
        assert completion.score == pytest.approx(sum(completion.log_probabilities), abs=1e-4)


@pytest.mark.serial
def test_what_it_made_is_gone_when_it_ends(pair: Pair) -> None:
    """Keys and values of many sentences are large: reference counts free them without the garbage collector."""
    prompts = random_ids(pair.case, lengths=LENGTHS, seed=0)
    search(pair, prompts, num_beams=3, max_new_tokens=4)
    gc.collect()
    gc.disable()
    try:
        search(pair, prompts, num_beams=3, max_new_tokens=4)
        assert gc.collect() == 0
    finally:
        gc.enable()
