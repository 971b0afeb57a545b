"""Greedy decoding with every setting that changes the best token, against `transformers`."""

from typing import Any

import pytest

from tests.generation.reference import EOS, Pair, pair
from tests.parity.harness import compare_greedy, random_ids
from triform import Batch

__all__ = ["pair"]

IN_A_BATCH: dict[str, dict[str, Any]] = {
    "plain": {},
    "repetition": {"repetition_penalty": 1.4},
    "encouraged": {"repetition_penalty": 0.8},
    # transformers would count the padding as tokens seen before.
    "ngrams": {"no_repeat_ngram_size": 2, "suppress_tokens": [0]},
    "unigrams": {"no_repeat_ngram_size": 1, "suppress_tokens": [0]},
    "least": {"min_new_tokens": 9},
    "bad words": {"bad_words_ids": [[token] for token in range(60)]},
    "bad runs": {"bad_words_ids": [[first, last] for first in range(120) for last in range(0, 120, 2)]},
    "suppressed": {"suppress_tokens": list(range(3, 60)), "begin_suppress_tokens": list(range(60, 90))},
    "end": {"forced_eos_token_id": 1},
    "many": {
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 4,
        "suppress_tokens": [0, 5],
        "begin_suppress_tokens": [7, 8],
        "forced_eos_token_id": [1, 10],
    },
}
ALONE: dict[str, dict[str, Any]] = {
    "least in all": {"min_length": 12},
    "most in all": {"max_length": 22, "max_new_tokens": None},
    "begin": {"forced_bos_token_id": 33, "begin_suppress_tokens": list(range(60, 90))},
}


def check(pair: Pair, prompts: list[list[int]], settings: dict[str, Any], *, batch: bool) -> None:
    settings = {"max_new_tokens": 14, "eos_token_id": EOS, **settings}
    actual = pair.model.generate(Batch.from_ids(prompts), do_sample=False, **settings)
    for group in [prompts] if batch else [[prompt] for prompt in prompts]:
        output = pair.expect(group, do_sample=False, **settings)
        for row, expected in enumerate(pair.new_ids(output, max(map(len, group)), EOS)):
            compare_greedy(actual.pop(0), expected, [step[row].numpy() for step in output.scores])
    assert not actual


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_A_BATCH)
def test_unequal_prompts_in_one_batch(name: str, pair: Pair) -> None:
    for seed in range(3):
        check(pair, random_ids(pair.case, lengths=(5, 1, 17, 9), seed=seed), IN_A_BATCH[name], batch=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_lengths_that_count_the_prompt(name: str, pair: Pair) -> None:
    """transformers would count padding as well, so each prompt runs alone."""
    for seed in range(3):
        check(pair, random_ids(pair.case, lengths=(5, 1, 17, 9), seed=seed), ALONE[name], batch=False)
