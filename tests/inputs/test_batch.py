"""Packing, splitting and the views for people."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triform import Batch
from triform.engines import Spans
from triform.errors import InputError
from triform.inputs import EncodedText, Source
from triform.networks.context import ForwardContext

sequences = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), min_size=1, max_size=9)


@given(sequences, st.integers(1, 30))
def test_split_keeps_every_sequence_in_order_and_within_the_budget(rows: list[list[int]], budget: int) -> None:
    batch = Batch.from_ids(rows, [[i % 2] * len(row) for i, row in enumerate(rows)])
    parts = list(batch.split(budget))
    assert [part.ids[b:e].tolist() for part in parts for b, e in part.spans.pairs()] == rows
    assert np.concatenate([part.token_type_ids for part in parts]).tolist() == batch.token_type_ids.tolist()
    assert all(len(part.ids) <= budget or len(part) == 1 for part in parts)
    # No two neighbours would have fitted together.
    assert all(len(a.ids) + b.lengths[0] > budget for a, b in pairwise(parts))


class Picture(Source):
    """A source of a kind different from text."""


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 9)), min_size=1, max_size=9), st.integers(1, 20))
def test_every_array_is_split_with_its_rows(sizes: list[tuple[int, int]], budget: int) -> None:
    """Sequences have any number of features, several at one row or none."""
    spans = Spans.of_lengths(np.array([rows for rows, _ in sizes]))
    own_rows = [np.arange(count) * rows // max(count, 1) for rows, count in sizes]
    feature_rows = np.concatenate([rows + begin for rows, begin in zip(own_rows, spans.begins, strict=True)])
    features = np.random.default_rng(0).random((len(feature_rows), 3), np.float32)
    pictures = tuple(Picture() for _ in sizes)
    batch = Batch(
        spans=spans,
        ids=np.arange(spans.ends[-1]) + 100,
        token_type_ids=np.arange(spans.ends[-1]) % 2,
        positions=np.arange(spans.ends[-1]) * 2,
        features=features,
        feature_rows=feature_rows,
        sources=pictures,
    )
    parts = list(batch.split(budget))
    for name in ("ids", "token_type_ids", "positions", "features"):
        assert np.concatenate([getattr(part, name) for part in parts]).tolist() == getattr(batch, name).tolist()
    assert [picture for part in parts for picture in part.sources_of(Picture)] == list(pictures)
    assert [rows.tolist() for rows in own_rows] == [
        (part.feature_rows[(begin <= part.feature_rows) & (part.feature_rows < end)] - begin).tolist()
        for part in parts
        for begin, end in part.spans.pairs()
    ]


def test_sources_are_of_one_kind() -> None:
    batch = Batch.from_ids([[1], [2]])
    for sources in ((), (Picture(), Picture())):
        with pytest.raises(InputError, match="a batch of 2 sources of type EncodedText, got 0.*task's preprocess"):
            replace(batch, sources=sources).sources_of(EncodedText)


@given(sequences)
def test_views_for_people(rows: list[list[int]]) -> None:
    batch = Batch.from_ids(rows)
    longest = max(map(len, rows))
    assert batch.attention_mask.tolist() == [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    assert batch.padded(batch.ids, fill=-1).tolist() == [row + [-1] * (longest - len(row)) for row in rows]
    counted = ForwardContext(batch.spans, positions=batch.positions).positions()
    assert counted.tolist() == [position for row in rows for position in range(len(row))]
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
