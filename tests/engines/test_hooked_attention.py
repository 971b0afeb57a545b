"""Attention with a hook: bounded runs, selections of heads and queries, and the bits of a pass without a hook."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from triform.engines import (
    DistanceBias,
    Engine,
    KeysAndValues,
    PackedKeyValues,
    PagedKeyValues,
    PageTable,
    ProbabilityHook,
    Selection,
    Spans,
    create_engine,
)
from triform.engines.native._kernels import instruction_sets
from triform.engines.protocol import hooks
from triform.spec import Bidirectional, Causal, Mask, ScoreRule

ENGINES = ["reference", "torch:cpu", *(f"native:{name}" for name in instruction_sets())]
HEADS, GROUPS, HEAD_DIM = 4, 2, 8
RULES = {
    "causal": Causal(),
    "bidirectional": Bidirectional(),
    "one-sided window": Causal(window=9),
    "two-sided window": Bidirectional(window=9),
}
Floats = NDArray[np.float32]
Shown = dict[int, list[tuple[int, Any]]]
"""sequence → (first query, probabilities (N, Q, K)) of each run."""


def random_array(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Call:
    """A call runs attention on random numbers, with `past[b]` keys before the queries of each sequence."""

    def __init__(self, name: str, counts: list[int], past: list[int], mask: Mask, *, biased: bool, paged: bool) -> None:
        engine = self.engine = create_engine(name)
        lengths = np.array(counts) + np.array(past)
        self.queries = Spans.of_lengths(np.array(counts))
        key, value = random_array(2, int(lengths.sum()), GROUPS, HEAD_DIM, seed=1)
        spans, longest = Spans.of_lengths(lengths), int(lengths.max())
        self.query = engine.asarray(random_array(sum(counts), HEADS, HEAD_DIM))
        keys = PackedKeyValues(engine.asarray(key), engine.asarray(value), spans)
        self.keys = in_pages(engine, keys) if paged else keys
        self.rule = ScoreRule(scale=0.3, mask=mask)
        values = engine.asarray(random_array(HEADS, 2 * longest - 1, seed=2))
        self.bias = DistanceBias(values, longest - 1) if biased else None

    def __call__(self, hook: ProbabilityHook | None = None) -> Any:
        output = self.engine.attention(self.query, self.queries, self.keys, self.rule, bias=self.bias, hook=hook)
        return self.engine.to_numpy(output)

    def shown(self, selection: Selection, factor: float = 1.0) -> tuple[Any, Shown]:
        """Call with a hook that records the probabilities and multiplies them by a factor."""
        seen: Shown = {}

        def show(sequence: int, first_query: int, value: Any) -> Any:
            seen.setdefault(sequence, []).append((first_query, self.engine.to_numpy(value)))
            return value * factor

        return self(ProbabilityHook(show, selection)), seen

    def equal(self, actual: Any, expected: Any) -> None:
        """Compare to the last bit, but on torch with a tolerance."""
        if self.engine.name == "torch":
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(actual, expected)


def in_pages(engine: Engine, keys: PackedKeyValues) -> PagedKeyValues:
    """Write the same keys and values to a store."""
    counts = -(-keys.spans.lengths // engine.page_size)
    pages, lengths = Spans.of_lengths(counts), keys.spans.lengths
    places = np.concatenate([np.arange(length) for length in lengths])
    slots = np.repeat(pages.begins, lengths) * engine.page_size + places
    store = engine.key_value_store([KeysAndValues(GROUPS, HEAD_DIM)])
    store.grow(int(counts.sum()))
    table = PageTable(np.arange(counts.sum()), pages, lengths, slots)
    store.write(0, keys.key, keys.value, table)
    return PagedKeyValues(store, 0, table)


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> int:
    """Limit each run to a few queries."""
    limit = 1 << 13
    monkeypatch.setattr(hooks, "MAX_RUN_BYTES", limit)
    return limit


def rows_of(shown: Shown, call: Call) -> dict[int, Any]:
    """Return packed row → (N, K) probabilities; keys outside a run get zeros."""
    longest = max(p.shape[2] for runs in shown.values() for _, p in runs)
    found: dict[int, Any] = {}
    for sequence, runs in shown.items():
        for first, p in runs:
            for query in range(p.shape[1]):
                row = int(call.queries.begins[sequence]) + first + query
                assert row not in found
                found[row] = np.pad(p[:, query], ((0, 0), (0, longest - p.shape[2])))
    return found


@pytest.mark.parametrize("paged", [False, True], ids=["packed", "paged"])
@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@pytest.mark.parametrize("mask", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("name", ENGINES)
def test_a_selection_is_shown_in_runs_and_changes_nothing(
    name: str, mask: Mask, biased: bool, paged: bool, small_runs: int
) -> None:
    call = Call(name, [50, 1, 0, 33, 70], [20, 64, 3, 0, 1], mask, biased=biased, paged=paged)
    plain = call()
    hooked, shown = call.shown(Selection())
    call.equal(hooked, plain)
    for runs in shown.values():
        assert all(p.nbytes <= small_runs or p.shape[1] == 1 for _, p in runs)
    assert len(shown[0]) > 2
    whole = rows_of(shown, call)
    assert sorted(whole) == list(range(len(plain)))
    rows = np.array([0, 1, 2, 30, 49, 50, 60, 61, 153])
    for selection in (Selection(heads=[3, 0]), Selection(rows=rows), Selection(heads=[2], rows=rows)):
        hooked, shown = call.shown(selection)
        call.equal(hooked, plain)
        part = rows_of(shown, call)
        assert sorted(part) == (sorted(whole) if selection.rows is None else rows.tolist())
        heads = slice(None) if selection.heads is None else list(selection.heads)
        for row, p in part.items():
            call.equal(p, whole[row][heads, : p.shape[1]])


@pytest.mark.parametrize("name", ENGINES)
def test_only_the_selected_heads_and_queries_change(name: str, small_runs: int) -> None:
    call = Call(name, [50, 33], [0, 2], Causal(), biased=False, paged=False)
    plain = call()
    rows = np.array([3, 4, 60])
    hooked, shown = call.shown(Selection(heads=[1, 3], rows=rows), factor=0.0)
    expected = plain.copy()
    expected[rows[:, None], [1, 3]] = 0
    call.equal(hooked, expected)
    # The hook may keep the arrays.
    for p in rows_of(shown, call).values():
        np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_cross_attention_of_beams_that_share_keys(name: str, small_runs: int) -> None:
    call = Call(name, [3, 4, 2], [40, 40, 40], Bidirectional(), biased=False, paged=False)
    call.keys = call.keys.select(np.array([1, 1, 0]))
    hooked, shown = call.shown(Selection(rows=np.array([0, 5])))
    call.equal(hooked, call())
    assert {sequence: runs[0][0] for sequence, runs in shown.items()} == {0: 0, 1: 2}


@pytest.mark.parametrize("mask", [Causal(), Bidirectional(window=100)], ids=["causal", "window"])
@pytest.mark.parametrize("name", ENGINES)
def test_a_long_sequence_is_never_shown_whole(name: str, mask: Mask) -> None:
    call = Call(name, [1500], [0], mask, biased=True, paged=False)
    hooked, shown = call.shown(Selection())
    call.equal(hooked, call())
    assert len(shown[0]) > 1
    assert max(p.nbytes for _, p in shown[0]) <= 16 << 20


def test_gradients_flow_through_a_hook(small_runs: int) -> None:
    call = Call("torch:cpu", [50, 33], [0, 2], Causal(), biased=True, paged=False)

    def gradient(hook: ProbabilityHook | None) -> Any:
        call.query = call.query.detach().requires_grad_()
        output = call.engine.attention(call.query, call.queries, call.keys, call.rule, bias=call.bias, hook=hook)
        output.square().sum().backward()
        return call.query.grad

    expected = gradient(None)
    for selection in (Selection(), Selection(heads=[1, 3], rows=np.array([3, 4, 60]))):
        np.testing.assert_allclose(gradient(ProbabilityHook(lambda *args: args[2], selection)), expected, atol=1e-5)
