"""The runner alone: chunks, batches and failures, with a task of whole numbers and no model."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform.errors import InputError
from triform.inputs import Batch
from triform.tasks.options import Options
from triform.tasks.runner import CHUNK_CHARACTERS, VALUE, ErrorPolicy, Failure, num_characters, take_chunk
from triform.tasks.task import Rows, Task

UNREADABLE, UNANSWERABLE = -1, -2


class Lengths(Task[Rows, int]):
    """The task answers the length of each input, a sequence with a number of ids equal to the input."""

    name = "lengths"
    input_name = "number"
    options_type = Options

    def __init__(self) -> None:
        self.options = Options(token_budget=20)
        self.batches: list[list[int]] = []

    def is_one(self, inputs: Any, options: Any) -> bool:
        return isinstance(inputs, int)

    def preprocess(self, inputs: Sequence[int], options: Options) -> Batch:
        if UNREADABLE in inputs:
            raise InputError(f"Text {list(inputs).index(UNREADABLE)} cannot be read.")
        return Batch.from_ids([[abs(length)] * abs(length) for length in inputs])

    def forward(self, batch: Batch, options: Options) -> Rows:
        assert batch.num_rows <= options.token_budget or len(batch) == 1
        self.batches.append(batch.lengths.tolist())
        return batch.lengths.astype(np.float32)

    def postprocess(self, batch: Batch, tensors: Rows, options: Options) -> list[int]:
        if abs(UNANSWERABLE) in batch.lengths:
            raise InputError("A number cannot be answered.")
        return [int(length) for length in tensors]


class Sums(Lengths):
    """The task answers the sum of the lengths of an input's sequences: 3, 3, … and the rest."""

    several_sequences = True

    def preprocess(self, inputs: Sequence[int], options: Options) -> Batch:
        [given] = inputs
        if given == UNREADABLE:
            raise InputError("The number cannot be read.")
        return Batch.from_ids([[3] * 3] * (given // 3) + ([[1] * (given % 3)] if given % 3 else []))

    def postprocess(self, batch: Batch, tensors: Rows, options: Options) -> list[int]:
        return [int(tensors.sum())]


numbers = st.lists(st.integers(3, 15) | st.sampled_from([UNREADABLE, UNANSWERABLE]), min_size=1, max_size=30)


def expected(given: int) -> int | Failure:
    errors = {UNREADABLE: "the text cannot be read.", UNANSWERABLE: "A number cannot be answered."}
    return Failure(errors[given]) if given in errors else given


@given(numbers)
def test_every_input_has_its_answer_or_its_failure(inputs: list[int]) -> None:
    parts = list(Lengths().runner().parts(inputs, on_error=ErrorPolicy.SKIP))
    assert [answer for part in parts for answer in part] == [expected(each) for each in inputs]


@given(numbers)
def test_a_run_stops_at_the_first_failure_and_answers_what_comes_before(inputs: list[int]) -> None:
    answers = [answer for part in Lengths().runner().parts(inputs, on_error=ErrorPolicy.STOP) for answer in part]
    failed = [number for number, each in enumerate(inputs) if each < 0]
    assert answers == [expected(each) for each in inputs[: failed[0] + 1 if failed else None]]


@given(numbers, st.data())
def test_a_run_that_goes_on_has_the_batches_of_one_that_was_not_interrupted(
    inputs: list[int], data: st.DataObject
) -> None:
    whole, again = Lengths(), Lengths()
    list(whole.runner().parts(inputs, on_error=ErrorPolicy.SKIP))
    skip = data.draw(st.integers(0, len(inputs)))
    parts = again.runner().parts(inputs, on_error=ErrorPolicy.SKIP, skip=skip)
    assert [answer for part in parts for answer in part] == [expected(each) for each in inputs[skip:]]
    assert again.batches == whole.batches[len(whole.batches) - len(again.batches) :]


def test_what_could_not_be_read_stays_a_failure() -> None:
    given = [3, Failure("no number"), 4]
    assert list(Lengths().runner().parts(given, on_error=ErrorPolicy.SKIP)) == [given]
    assert list(Lengths().runner().parts(given, on_error=ErrorPolicy.STOP)) == [given[:2]]
    assert list(Lengths().runner().parts(given[1:2], on_error=ErrorPolicy.SKIP)) == [given[1:2]]


def test_several_sequences_of_one_input_go_through_the_model_in_parts() -> None:
    task = Sums()
    assert task([50, 4]) == [50, 4]
    assert task.batches == [[3] * 6, [3] * 6, [3] * 4 + [2], [3, 1]]
    assert task.runner().chunk_size == 1
    with pytest.raises(InputError, match="^Input 1: The number cannot be read"):
        task([3, UNREADABLE])


def test_a_stream_is_never_read_further_ahead_than_a_chunk() -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for number in range(1000):
            read += 1
            yield 3 + number % 5

    task = Lengths()
    answers = task(numbers())
    assert read == 0
    assert next(answers) == 3
    assert read == task.runner().chunk_size
    assert len(list(answers)) == 999
    # No two batches of one chunk would have fitted together.
    assert all(sum(a) + b[0] > 20 for a, b in pairwise(task.batches[:50]))


def test_long_inputs_end_a_chunk() -> None:
    """Memory is bounded for the sum of the inputs that are preprocessed together, and not for each alone."""
    texts = iter(["a" * (CHUNK_CHARACTERS // 2)] * 5)
    sizes = []
    while chunk := take_chunk(texts, 256, lambda text: text):
        sizes.append(len(chunk))
    assert sizes == [2, 2, 1]
    assert num_characters({"query": "ab", "documents": ["cde", "f"]}) == 2 + 3 + 1 + 2 * VALUE
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert num_characters(nested) == 100_001 * VALUE


def test_one_input_a_list_and_something_else() -> None:
    task = Lengths()
    assert task(3) == 3
    assert task([]) == []
    assert task((3, 4), token_budget=3) == [3, 4]
    with pytest.raises(InputError, match="lengths: expected number, a list or an iterable of numbers, got float"):
        task(3.5)
