"""Attention in two passes over runs of queries, as the kernels compute attention for a hook on the probabilities."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from triform.engines.native import _kernels

HEADS, GROUPS, HEAD_DIM, SCALE = 4, 2, 20, 0.3
LENGTHS = np.array([70, 1, 33])
BEGINS = np.cumsum(LENGTHS) - LENGTHS
Floats = NDArray[np.float32]


def random_array(*shape: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def arguments(causal: bool, window: int | None, bias: bool, output_TNH: Floats, num_new: int) -> Any:
    """Return the arguments of attention from at most the last `num_new` queries of each sequence to all keys."""
    counts = np.minimum(LENGTHS, num_new)
    longest = int(LENGTHS.max())
    return _kernels.AttentionArguments(
        query=random_array(int(LENGTHS.sum()), HEADS, HEAD_DIM, seed=0),
        output=output_TNH,
        keys=random_array(int(LENGTHS.sum()), GROUPS, HEAD_DIM, seed=1),
        values=random_array(int(LENGTHS.sum()), GROUPS, HEAD_DIM, seed=2),
        pages=None,
        query_begins=BEGINS + LENGTHS - counts,
        query_ends=BEGINS + LENGTHS,
        key_begins=BEGINS,
        num_keys=LENGTHS,
        scale=SCALE,
        causal=causal,
        window=window,
        bias=random_array(HEADS, 2 * longest - 1, seed=3) if bias else None,
        bias_zero=longest - 1,
    )


def in_runs(kernels: _kernels.Kernels, work: Any, sequence: int, cuts: list[int]) -> list[Floats]:
    """Return the probabilities (GROUPS, queries · heads / groups, keys) of each run, and write the output as well."""
    width = -(-int(LENGTHS[sequence]) // _kernels.BLOCK) * _kernels.BLOCK
    found = []
    for begin, end in pairwise(cuts):
        p = np.full((GROUPS, (end - begin) * HEADS // GROUPS, width), np.nan, np.float32)
        run: Any = {"sequence": sequence, "query_begin": begin, "query_end": end, "probabilities": p}
        kernels.attention_probabilities(work, **run)
        kernels.attention_values(work, **run)
        found.append(p)
    return found


@pytest.mark.parametrize("instruction_set", _kernels.instruction_sets())
@pytest.mark.parametrize("num_new", [100, 40])
def test_runs_of_queries_have_the_bits_of_the_whole_sequence(instruction_set: str, num_new: int) -> None:
    kernels = _kernels.Kernels(instruction_set)
    for causal, window, bias in product((False, True), (None, 5, 40), (False, True)):
        once, whole, cut = (np.zeros((int(LENGTHS.sum()), HEADS, HEAD_DIM), np.float32) for _ in range(3))
        kernels.attention(arguments(causal, window, bias, once, num_new))
        for sequence, count in enumerate(np.minimum(LENGTHS, num_new).tolist()):
            (expected,) = in_runs(kernels, arguments(causal, window, bias, whole, num_new), sequence, [0, count])
            cuts = sorted({0, count, *(place for place in (1, 13, 32, 33) if place < count)})
            found = in_runs(kernels, arguments(causal, window, bias, cut, num_new), sequence, cuts)
            np.testing.assert_array_equal(np.concatenate(found, axis=1), expected)
        np.testing.assert_array_equal(whole, once)
        np.testing.assert_array_equal(cut, once)


@pytest.mark.parametrize("instruction_set", _kernels.instruction_sets())
def test_a_weight_given_to_a_hidden_key_counts_in_every_run(instruction_set: str) -> None:
    """The first query under a causal mask attends to the last key, as a hook may ask."""
    kernels, output = _kernels.Kernels(instruction_set), np.zeros((int(LENGTHS.sum()), HEADS, HEAD_DIM), np.float32)
    p = np.zeros((GROUPS, HEADS // GROUPS, 96), np.float32)
    p[..., 69] = 1
    work = arguments(True, None, False, output, 100)
    kernels.attention_values(work, sequence=0, query_begin=0, query_end=1, probabilities=p)
    values = random_array(int(LENGTHS.sum()), GROUPS, HEAD_DIM, seed=2)
    np.testing.assert_array_equal(output[0], values[69].repeat(HEADS // GROUPS, axis=0))


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"sequence": 3}, "sequence"), ({"query_end": 71}, "queries"), ({"query_begin": 1}, "probabilities")],
)
def test_what_does_not_fit_is_an_error(changed: dict[str, int], message: str) -> None:
    work = arguments(True, None, False, np.zeros((int(LENGTHS.sum()), HEADS, HEAD_DIM), np.float32), 100)
    run: Any = {
        "sequence": 0,
        "query_begin": 0,
        "query_end": 1,
        "probabilities": np.zeros((GROUPS, HEADS // GROUPS, 96), np.float32),
    }
    with pytest.raises(ValueError, match=message):
        _kernels.Kernels("plain").attention_probabilities(work, **run | changed)
