"""Pages of the cache: allocation, sharing, copy-on-write, and release."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parity.cases import llama
from triform.engines import Integers, PageTable, create_engine
from triform.families import read_spec
from triform.generation.cache import NO_PAGE, KeyValueCache, new_cache


def make_cache(num_sequences: int) -> KeyValueCache:
    spec = read_spec(llama(num_hidden_layers=2).to_dict() | {"architectures": ["LlamaForCausalLM"]}, "config.json")
    return new_cache(create_engine("reference"), spec.output_stack, num_sequences)


def write(cache: KeyValueCache, table: PageTable, numbers: Integers) -> None:
    """Fill each new row with a distinct number, different in each layer."""
    for layer in range(2):
        rows = np.broadcast_to((numbers + layer)[:, None, None], (len(numbers), 4, 8)).astype(np.float32)
        cache.store.write(layer, rows, -rows, table)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), min_size=8, max_size=8), min_size=1, max_size=8), st.randoms())
def test_shared_pages_are_never_written_and_nothing_is_lost(steps: list[list[int]], random: Any) -> None:
    """Sequences grow by any number of tokens, end, and split, at any time; a pass may fail after `reserve`."""
    cache = make_cache(3)
    size = 32
    expected: list[list[int]] = [[], [], []]
    next_number = 1
    for step in steps:
        counts = np.array(step[: len(expected)])
        table = cache.reserve(counts)
        assert len(set(table.slots.tolist())) == len(table.slots)
        owners = [set(table.pages[begin:end].tolist()) for begin, end in table.spans.pairs()]
        written = np.split(table.slots // size, np.cumsum(counts)[:-1])
        for sequence, pages in enumerate(written):
            for other, theirs in enumerate(owners):
                assert other == sequence or not theirs & set(pages.tolist())
        if random.random() < 0.8:
            numbers = np.arange(next_number, next_number + 2 * counts.sum(), 2)
            next_number += 2 * int(counts.sum())
            write(cache, table, numbers)
            cache.commit(counts)
            for ids, new in zip(expected, np.split(numbers, np.cumsum(counts)[:-1]), strict=True):
                ids.extend(new.tolist())
            for sequence, ids in enumerate(expected):
                for layer in range(2):
                    keys, values = cache.store.read(layer, table, sequence)  # type: ignore[attr-defined]
                    assert (keys[:, 3, 7] - layer).tolist() == ids
                    assert (-values[:, 0, 0] - layer).tolist() == ids
        pages, users = np.unique(cache._pages, return_counts=True)
        expected_users = np.zeros_like(cache.pool.num_users)
        expected_users[pages[pages != NO_PAGE]] = users[pages != NO_PAGE]
        np.testing.assert_array_equal(cache.pool.num_users, expected_users)
        kept = [random.randrange(len(expected)) for _ in range(random.randint(1, 8))]
        cache.keep(np.array(kept))
        expected = [list(expected[sequence]) for sequence in kept]


def test_a_common_beginning_lies_in_the_store_once() -> None:
    cache = make_cache(1)
    for counts, kept in (([100], [0] * 4), ([1] * 4, [0, 1, 1, 3])):
        cache.reserve(np.array(counts))
        cache.commit(np.array(counts))
        cache.keep(np.array(kept))
    # Three whole pages of the first 96 tokens, and the last page of three sequences still in use.
    assert (cache._pages[:, :3] == cache._pages[0, :3]).all()
    assert len(np.unique(cache._pages)) == np.count_nonzero(cache.pool.num_users) == 3 + 3


def test_pages_of_ended_sequences_are_used_again() -> None:
    cache = make_cache(2)
    cache.reserve(np.array([100, 100]))
    cache.commit(np.array([100, 100]))
    ended = set(cache._pages[0].tolist())
    cache.keep(np.array([1]))
    cache.reserve(np.array([100]))
    assert ended & set(cache._pages[0].tolist())
