"""Each processor against the counterpart in `transformers`, on random logits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as reference

from triform.errors import InputError
from triform.generation.config import GenerationConfig
from triform.generation.processors import (
    Floats,
    add_biases,
    ban_repeated_ngrams,
    ban_runs,
    force,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_occurrences,
    penalize_repetition,
    process,
    suppress,
    warp,
)
from triform.generation.sequence import GrowingSequence, Limit

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 3, (6, 50)).astype(np.float32)
IDS = RANDOM.integers(0, 12, (6, 20)).tolist()
ALL = np.ones(6, bool)
RUNS = [(4,), (5, 6), (IDS[0][-1], 7), (*IDS[1][-3:], 8), (*IDS[1][-3:-1], 9), (1, *IDS[2], 3), (*IDS[3], 3)]
"""Runs of token ids: some complete the sequence, one is longer than the sequence."""

CASES: dict[str, tuple[Callable[[], Floats], Callable[[], Any]]] = {
    "repetition": (
        lambda: penalize_repetition(LOGITS, IDS, 1.3),
        lambda: reference.RepetitionPenaltyLogitsProcessor(1.3),
    ),
    "encouraged": (
        lambda: penalize_repetition(LOGITS, IDS, 0.7),
        lambda: reference.RepetitionPenaltyLogitsProcessor(0.7),
    ),
    **{
        f"{size}-grams": (
            partial(ban_repeated_ngrams, LOGITS, IDS, size),
            partial(reference.NoRepeatNGramLogitsProcessor, size),
        )
        for size in (1, 2, 3, 20, 21)
    },
    "biases": (
        lambda: add_biases(LOGITS, ((3, -100.0), (7, 2.5), (49, 0.1))),
        lambda: reference.SequenceBiasLogitsProcessor([[[3], -100.0], [[7], 2.5], [[49], 0.1]]),
    ),
    "runs": (
        lambda: ban_runs(LOGITS, IDS, RUNS),
        lambda: reference.NoBadWordsLogitsProcessor([list(run) for run in RUNS], eos_token_id=49),
    ),
    "too short": (lambda: suppress(LOGITS, (3, 7), ALL), lambda: reference.MinLengthLogitsProcessor(21, [3, 7])),
    "long enough": (lambda: suppress(LOGITS, (3, 7), ~ALL), lambda: reference.MinLengthLogitsProcessor(20, [3, 7])),
    "few new": (
        lambda: suppress(LOGITS, (3,), ALL),
        lambda: reference.MinNewTokensLengthLogitsProcessor(15, 6, [3]),
    ),
    "suppressed": (
        lambda: suppress(LOGITS, (1, 49, 50), ALL),
        lambda: reference.SuppressTokensLogitsProcessor([1, 49]),
    ),
    "forced end": (lambda: force(LOGITS, (2, 4), ALL), lambda: reference.ForcedEOSTokenLogitsProcessor(21, [2, 4])),
    "not yet forced": (lambda: force(LOGITS, (2,), ~ALL), lambda: reference.ForcedEOSTokenLogitsProcessor(22, 2)),
    **{f"top {k}": (partial(keep_top_k, LOGITS, k), partial(reference.TopKLogitsWarper, k)) for k in (1, 5, 50, 99)},
    **{
        f"top_p {p}": (partial(keep_top_p, LOGITS, p), partial(reference.TopPLogitsWarper, p))
        for p in (0.01, 0.5, 0.9, 0.999)
    },
    **{
        f"min_p {p}": (partial(keep_min_p, LOGITS, p), partial(reference.MinPLogitsWarper, p)) for p in (0.0, 0.05, 1.0)
    },
    # For beams: not every beam has to end.
    **{
        f"beams, {name}": (
            partial(warp, LOGITS, GenerationConfig(do_sample=True, num_beams=2, eos_token_id=(1, 2), **own)),
            partial(theirs, *own_values, min_tokens_to_keep=3),
        )
        for name, own, theirs, own_values in (
            ("top_k", {"top_k": 1}, reference.TopKLogitsWarper, (1,)),
            ("top_p", {"top_k": 0, "top_p": 0.01}, reference.TopPLogitsWarper, (0.01,)),
            ("min_p", {"top_k": 0, "min_p": 1.0}, reference.MinPLogitsWarper, (1.0,)),
        )
    },
    "temperature": (
        lambda: warp(LOGITS, GenerationConfig(do_sample=True, temperature=0.6, top_k=0)),
        lambda: reference.TemperatureLogitsWarper(0.6),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equal(name: str) -> None:
    ours, theirs = CASES[name]
    before = LOGITS.copy()
    expected = theirs()(torch.tensor(IDS), torch.tensor(LOGITS)).numpy()
    actual = ours()
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(LOGITS, before)


def test_penalties_count_generated_tokens_by_the_formula() -> None:
    """logit − count · frequency − (1 where count > 0) · presence, over what follows the prompt."""
    new = [ids[5:] for ids in IDS]
    counts = np.array([np.bincount(ids, minlength=50) for ids in new])
    expected = (LOGITS.astype(np.float64) - counts * 0.7 - (counts > 0) * -1.3).astype(np.float32)
    np.testing.assert_allclose(penalize_occurrences(LOGITS, new, 0.7, -1.3), expected, rtol=0, atol=1e-6)
    sequences = [GrowingSequence(ids, 5, Limit(num_tokens=99)) for ids in IDS]
    config = GenerationConfig(frequency_penalty=0.7, presence_penalty=-1.3)
    np.testing.assert_allclose(process(LOGITS, sequences, config), expected, rtol=0, atol=1e-6)
    first = [GrowingSequence(ids, 20, Limit(num_tokens=99)) for ids in IDS]
    np.testing.assert_array_equal(process(LOGITS, first, config), LOGITS)


def test_biases_come_before_penalties() -> None:
    """As in transformers, where a repetition penalty divides a logit above 0 and multiplies one below."""
    sequences = [GrowingSequence([7], 1, Limit(num_tokens=9))]
    config = GenerationConfig(logit_bias=((7, 4.0),), repetition_penalty=2.0)
    assert process(np.array([[0.0] * 7 + [-2.0]], np.float32), sequences, config)[0, 7] == 1.0


def test_equals_are_all_kept_among_the_best() -> None:
    logits = np.array([[1, 2, 2, 2, 0]], np.float32)
    assert np.isfinite(keep_top_k(logits, 2)).tolist() == [[False, True, True, True, False]]


def test_each_sequence_has_its_own_place() -> None:
    """One batch holds a first token, a middle token and a last token."""
    limit = Limit(num_tokens=4)
    sequences = [GrowingSequence(ids, start, limit) for ids, start in (([9], 1), ([8, 9], 1), ([7, 7, 1, 2, 3], 2))]
    config = GenerationConfig(
        eos_token_id=(5,), min_length=3, forced_bos_token_id=4, forced_eos_token_id=(5,), begin_suppress_tokens=(6,)
    )
    finite = np.isfinite(process(LOGITS[:3], sequences, config))
    assert [np.flatnonzero(row).tolist() for row in finite[[0, 2]]] == [[4], [5]]
    # The text begins after the forced first token, and is still too short to end.
    assert np.flatnonzero(~finite[1]).tolist() == [5, 6]


def test_a_forced_token_must_exist() -> None:
    with pytest.raises(InputError, match="forced token 50 is outside the vocabulary of 50"):
        force(LOGITS, (50,), ALL)
