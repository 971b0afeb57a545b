"""Examples → steps: the same in every run, from any step on, each example once in an epoch, and never padded."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.small import Letters, NextLetter
from triform.data import Row
from triform.errors import InputError
from triform.training.batches import Batches, BatchSettings, make_micro_batches


def batches(lengths: list[int], seed: int = 0, num_processes: int = 1, **settings: int) -> Batches[Letters]:
    rows = [Row({"text": chr(number + 200) * length}, f"line {number}") for number, length in enumerate(lengths)]
    return Batches(
        rows=rows,
        objective=NextLetter(),
        settings=BatchSettings(**settings),
        seed=seed,
        num_processes=num_processes,
    )


def flat(step: list[list[Letters]]) -> list[int]:
    return [example.ids[0] for part in step for example in part]


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=50)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 99), st.integers(1, 60))
def test_each_example_comes_once_in_an_epoch(lengths: list[int], size: int, budget: int, pool: int) -> None:
    for settings in ({"batch_size": size}, {"batch_tokens": budget}):
        own = batches(lengths, token_budget=budget, pool_size=pool, **settings)
        steps = list(islice(own.from_step(0), own.steps_in_epoch()))
        assert sorted(number for step in steps for number in flat(step)) == sorted(range(len(lengths)))
        assert all(part for step in steps for part in step)
        if "batch_size" in settings:
            assert all(len(flat(step)) <= size for step in steps)


@given(LENGTHS, st.integers(1, 60), st.integers(0, 40), st.booleans())
def test_from_any_step_on_they_are_the_same(lengths: list[int], pool: int, begin: int, is_counted: bool) -> None:
    settings = {"batch_tokens": 30, "token_budget": 20, "pool_size": pool}
    whole = islice(batches(lengths, **settings).from_step(0), begin, begin + 5)
    own = batches(lengths, **settings)
    if is_counted:
        own.steps_in_epoch()
    assert list(islice(own.from_step(begin), 5)) == list(whole)


def test_epochs_and_seeds_differ() -> None:
    own = batches([3] * 40, batch_size=40)
    first, second = islice(own.from_step(0), 2)
    other = next(batches([3] * 40, seed=1, batch_size=40).from_step(0))
    assert len({str(first), str(second), str(other)}) == 3


def test_pools_that_were_counted_are_not_read_again() -> None:
    own = batches([5] * 10, batch_size=2, pool_size=4)
    own.steps_in_epoch()
    again = batches([5] * 10, batch_size=2, pool_size=4)
    again.pool_steps = own.pool_steps
    again.objective.examples = pytest.fail  # type: ignore[method-assign, assignment]
    assert again.steps_in_epoch() == 5


@given(LENGTHS, st.integers(1, 99), st.integers(1, 4))
def test_parts_keep_to_the_budget_and_have_like_lengths(lengths: list[int], budget: int, at_least: int) -> None:
    examples = [Letters([1] * length) for length in lengths]
    parts = make_micro_batches(examples, lambda example: len(example.ids), budget, at_least=at_least)
    sizes = [[len(example.ids) for example in part] for part in parts]
    assert sum(sizes, []) == sorted(lengths)  # noqa: RUF017
    assert all(sum(own) <= budget + max(own) for own in sizes)
    assert len(parts) >= min(at_least, len(lengths))


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        batches([]).steps_in_epoch()


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="token_budget = 0: expected more than 0"):
        BatchSettings(token_budget=0)
