"""Packing, splitting and the views for people."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform import Batch
from triform.errors import InputError

sequences = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=9)


@given(sequences, st.integers(1, 30))
def test_split_keeps_every_sequence_in_order_and_within_the_budget(rows: list[list[int]], budget: int) -> None:
    batch = Batch.from_ids(rows, [[i % 2] * len(row) for i, row in enumerate(rows)])
    parts = list(batch.split(budget))
    assert [part.ids[b:e].tolist() for part in parts for b, e in part.spans.pairs()] == rows
    assert np.concatenate([part.segment_ids for part in parts]).tolist() == batch.segment_ids.tolist()
    assert all(len(part.ids) <= budget or len(part) == 1 for part in parts)
    # No two neighbours would have fitted together.
    assert all(len(a.ids) + b.lengths[0] > budget for a, b in pairwise(parts))


@given(sequences)
def test_views_for_people(rows: list[list[int]]) -> None:
    batch = Batch.from_ids(rows)
    longest = max(map(len, rows))
    assert batch.attention_mask.tolist() == [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    assert batch.padded(batch.ids, fill=-1).tolist() == [row + [-1] * (longest - len(row)) for row in rows]
    assert batch.positions.tolist() == [position for row in rows for position in range(len(row))]
    assert batch.lengths.tolist() == [len(row) for row in rows]


@pytest.mark.parametrize(
    ("rows", "segments", "message"),
    [
        ([], None, "The batch is empty: expected at least one sequence"),
        ([[1], []], None, "Sequence 1 is empty"),
        ([[1.5]], None, "sequence 0: expected a list of whole numbers, got float64"),
        ([["a"]], None, "sequence 0: expected a list of whole numbers"),
        ([[[1]]], None, "sequence 0: expected a list of whole numbers"),
        ([[[1], [2, 3]]], None, "sequence 0: expected a list of ids"),
        ([[1, 2]], [[0]], r"must have the lengths of the sequences: expected \[2\], got \[1\]"),
        ([[1, 2]], [], r"expected \[2\], got \[\]"),
    ],
)
def test_bad_ids_are_refused(rows: list[list[int]], segments: list[list[int]] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Batch.from_ids(rows, segments)
