"""Every faster engine against the reference engine, operation by operation; all of them against `transformers`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import triform
from tests.engines import FLOATS
from tests.parity.cases import CASES
from tests.parity.harness import Case, compare, make_checkpoint, random_inputs
from triform.engines import (
    Dense,
    DistanceBias,
    Engine,
    Format,
    KeysAndValues,
    PackedKeyValues,
    PagedKeyValues,
    PageTable,
    ParameterRole,
    ProbabilityHook,
    Spans,
    StoredTensor,
    create_engine,
)
from triform.engines.native._kernels import instruction_sets
from triform.engines.reference import ReferenceEngine
from triform.spec import Activation, Bidirectional, Causal, Mask, Pooling, ScoreRule

REFERENCE = ReferenceEngine()
NAMES = ["torch:cpu", *(f"native:{name}" for name in instruction_sets())]
ENGINES = {name: create_engine(name) for name in NAMES}
Floats = NDArray[np.float32]


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def random_array(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(engine: Engine, actual: Any, expected: Floats) -> None:
    found = engine.to_numpy(actual)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max(initial=0) <= 1e-5 * max(1, np.abs(expected).max(initial=0))


def prepared(
    engine: Engine, array: Floats, format: Format = Format.FLOAT32, role: ParameterRole = ParameterRole.LINEAR
) -> tuple[Any, Any]:
    """Return a parameter of the reference engine, and the same parameter of another engine."""
    stored = StoredTensor(array, Format.FLOAT32)
    return REFERENCE.prepare("w", stored, format, role), engine.prepare("w", stored, format, role)


@pytest.mark.parametrize(
    "role", [ParameterRole.TABLE, ParameterRole.LINEAR, ParameterRole.TABLE | ParameterRole.LINEAR], ids=str
)
@pytest.mark.parametrize("format", FLOATS, ids=str)
def test_parameters_are_those_of_the_reference_engine(engine: Engine, format: Format, role: ParameterRole) -> None:
    numpy, ours = prepared(engine, random_array(70, 24), format, role)
    assert ours.shape == (70, 24)
    assert ours.format is format
    stored = engine.stored(ours)
    assert stored.format is format
    np.testing.assert_array_equal(stored.array, REFERENCE.stored(numpy).array)
    if ParameterRole.TABLE in role:
        ids = np.array([3, 3, 69])
        close(engine, engine.embedding(engine.asarray(ids), ours), REFERENCE.embedding(ids, numpy))
    if ParameterRole.LINEAR in role:
        x = random_array(5, 24, seed=1)
        close(engine, engine.linear(engine.asarray(x), ours), REFERENCE.linear(x, numpy))


edges = st.sampled_from([15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 255, 256, 257])
"""Around the sizes of vectors, tiles, blocks, pages, and chains of summands."""
rows, widths = st.integers(0, 60) | edges, st.integers(1, 300) | edges


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(1, 700) | edges, widths, st.sampled_from([None, *Activation]), st.data())
@pytest.mark.parametrize("name", NAMES)
def test_linear(name: str, rows: int, inputs: int, outputs: int, activation: Activation | None, data: Any) -> None:
    engine = ENGINES[name]
    weight = prepared(engine, random_array(outputs, inputs) * np.float32(inputs**-0.5))
    bias = (
        prepared(engine, random_array(outputs, seed=2), role=ParameterRole.VECTOR)
        if data.draw(st.booleans())
        else (None, None)
    )
    residual = random_array(rows, outputs, seed=3) if data.draw(st.booleans()) else None
    x = random_array(rows, inputs, seed=1)
    expected = REFERENCE.linear(x, weight[0], bias[0], activation=activation, residual=residual)
    own = None if residual is None else engine.asarray(residual)
    close(engine, engine.linear(engine.asarray(x), weight[1], bias[1], activation=activation, residual=own), expected)


@settings(max_examples=40, deadline=None)
@given(rows, widths, widths, st.sampled_from(FLOATS), st.sampled_from(Activation), st.data())
@pytest.mark.parametrize("name", NAMES)
def test_feed_forward(
    name: str, rows: int, width: int, inner: int, format: Format, activation: Activation, data: Any
) -> None:
    engine = ENGINES[name]
    shapes = [(inner, width), (width, inner), (inner, width)]
    weights, biases = zip(
        *(
            (
                prepared(engine, random_array(*shape, seed=seed) * np.float32(shape[1] ** -0.5), format),
                prepared(engine, random_array(shape[0], seed=seed), role=ParameterRole.VECTOR),
            )
            for seed, shape in enumerate(shapes)
        ),
        strict=True,
    )
    gated, biased, adds = (data.draw(st.booleans()) for _ in range(3))
    x, answers = random_array(rows, width, seed=3), []
    for place, own in enumerate((REFERENCE, engine)):
        up, down, gate = (Dense(w[place], b[place] if biased else None) for w, b in zip(weights, biases, strict=True))
        given = own.asarray(x)
        several = own.linears(given, [up, gate])
        y = own.feed_forward(
            given, up, down, activation, gate=gate if gated else None, residual=given if adds else None
        )
        gates = own.gated_linear(given, gate.weight, up.weight, gate.bias, up.bias, activation)
        answers.append([*several, gates, y])
    for expected, found in zip(*answers, strict=True):
        close(engine, found, expected)


@pytest.mark.parametrize("activation", list(Activation))
def test_activations_of_great_and_of_no_numbers(engine: Engine, activation: Activation) -> None:
    x = np.array([[0, -0.0, 1e-30, 5, -5, 12, -12, 90, -90, 1e4, -1e4, 1e30, -1e30]], np.float32).T
    weight = prepared(engine, np.ones((1, 1), np.float32))
    expected = REFERENCE.linear(x, weight[0], activation=activation)
    found = engine.to_numpy(engine.linear(engine.asarray(x), weight[1], activation=activation))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    x = np.array([[np.nan]], np.float32)
    assert np.isnan(engine.to_numpy(engine.linear(engine.asarray(x), weight[1], activation=activation))).all()


@settings(max_examples=40, deadline=None)
@given(rows, widths)
@pytest.mark.parametrize("name", NAMES)
def test_norms(name: str, rows: int, width: int) -> None:
    engine = ENGINES[name]
    weight, bias = (prepared(engine, random_array(width, seed=seed), role=ParameterRole.VECTOR) for seed in (0, 2))
    x = random_array(rows, width, seed=1)
    ours = engine.layer_norm(engine.asarray(x), weight[1], bias[1], 1e-5)
    close(engine, ours, REFERENCE.layer_norm(x, weight[0], bias[0], 1e-5))
    close(engine, engine.rms_norm(engine.asarray(x), weight[1], 1e-6), REFERENCE.rms_norm(x, weight[0], 1e-6))


lengths = st.lists(st.integers(1, 40) | edges, min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(1, 4), st.integers(1, 70), st.data())
@pytest.mark.parametrize("name", NAMES)
def test_rotary(name: str, rows: int, heads: int, head_dim: int, data: Any) -> None:
    engine = ENGINES[name]
    # Channels behind the last pair stay as they are.
    frequencies = np.geomspace(1, 1e-3, data.draw(st.integers(0, head_dim // 2)), dtype=np.float32)
    x, positions = random_array(rows, heads, head_dim), np.random.default_rng(0).integers(0, 500, rows)
    expected = REFERENCE.rotary(x, REFERENCE.rotary_table(positions, frequencies))
    table = engine.rotary_table(engine.asarray(positions), frequencies)
    close(engine, engine.rotary(engine.asarray(x), table), expected)


@settings(max_examples=40, deadline=None)
@given(rows, widths)
@pytest.mark.parametrize("name", NAMES)
def test_normalize(name: str, rows: int, width: int) -> None:
    engine = ENGINES[name]
    x = random_array(rows, width) * np.float32(10) ** np.arange(rows, dtype=np.float32)[:, None].clip(max=15)
    x[rows // 2 :][:1] = 0
    close(engine, engine.normalize(engine.asarray(x)), REFERENCE.normalize(x))
    x[:1, width - 1] = np.nan
    assert np.isnan(engine.to_numpy(engine.normalize(engine.asarray(x)))[:1]).all()


@settings(max_examples=40, deadline=None)
@given(lengths, widths, st.sampled_from(list(Pooling)))
@pytest.mark.parametrize("name", NAMES)
def test_pooling(name: str, lengths: list[int], width: int, pooling: Pooling) -> None:
    engine = ENGINES[name]
    # Rows between the spans belong to none.
    ends = np.cumsum(np.array(lengths) + 2)
    spans = Spans(ends - np.array(lengths), ends)
    x = random_array(int(ends[-1]), width)
    close(engine, engine.pool(engine.asarray(x), spans, pooling), REFERENCE.pool(x, spans, pooling))
    x[spans.begins[0] : spans.ends[0], 0] = np.nan
    pooled = engine.to_numpy(engine.pool(engine.asarray(x), spans, pooling))
    assert np.isnan(pooled[0, 0])
    assert np.isfinite(pooled[:, 1:]).all()


@settings(max_examples=40, deadline=None)
@given(rows, widths, st.lists(st.sampled_from(FLOATS), min_size=1, max_size=3), st.booleans())
@pytest.mark.parametrize("name", NAMES)
def test_the_sum_of_embeddings(name: str, rows: int, width: int, formats: list[Format], tied: bool) -> None:
    engine = ENGINES[name]
    tables = [
        prepared(
            engine,
            random_array(50, width, seed=seed),
            format,
            ParameterRole.TABLE | (ParameterRole.LINEAR if tied else ParameterRole.TABLE),
        )
        for seed, format in enumerate(formats)
    ]
    ids = [np.random.default_rng(seed).integers(0, 50, rows) for seed in range(len(tables))]
    expected = REFERENCE.embedding_sum([(own, table) for own, (table, _) in zip(ids, tables, strict=True)])
    found = engine.embedding_sum([(engine.asarray(own), table) for own, (_, table) in zip(ids, tables, strict=True)])
    np.testing.assert_array_equal(engine.to_numpy(found), expected)


def test_the_greatest_in_order(engine: Engine) -> None:
    x = np.array([[1, 3, 3, -np.inf, 2, 3]], np.float32)
    for k in (1, 2, 4, 6, 7):
        for ours, expected in zip(engine.top_k(engine.asarray(x), k), REFERENCE.top_k(x, k), strict=True):
            np.testing.assert_array_equal(ours, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 300), st.integers(1, 40), st.booleans(), st.data())
@pytest.mark.parametrize("name", NAMES)
def test_what_tokens_are_chosen_of(name: str, rows: int, width: int, k: int, tied: bool, data: Any) -> None:
    engine = ENGINES[name]
    x = random_array(rows, width, seed=data.draw(st.integers(0, 9))) * np.float32(5)
    if tied:
        x = x.round()
    given = engine.asarray(x)
    close(engine, engine.log_softmax(given), REFERENCE.log_softmax(x))
    for operation in ("top_k", "top_log_probabilities"):
        values, indices = getattr(engine, operation)(given, k)
        expected, places = getattr(REFERENCE, operation)(x, k)
        np.testing.assert_array_equal(indices, places)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
    assert engine.all_finite(given)
    for broken in (np.nan, np.inf, -np.inf):
        x[rows - 1, data.draw(st.integers(0, width - 1))] = broken
        assert not engine.all_finite(engine.asarray(x))
        values, _ = engine.top_log_probabilities(engine.asarray(x), k)
        assert np.isnan(values[rows - 1]).all()
        assert np.isfinite(values[: rows - 1]).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9) | edges, st.integers(0, 70) | edges), min_size=1, max_size=5),
    st.sampled_from([(4, 4, 8), (4, 2, 16), (3, 1, 40)]),
    st.sampled_from([Bidirectional, Causal]),
    st.sampled_from([None, 1, 5]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@pytest.mark.parametrize("name", NAMES)
def test_attention(
    name: str,
    lengths: list[tuple[int, int]],
    heads: tuple[int, int, int],
    mask: type[Mask],
    window: int | None,
    biased: bool,
    paged: bool,
    traced: bool,
) -> None:
    """Sequences of some queries behind some keys, packed or in pages, with every optional addition."""
    num_queries = np.array([queries for queries, _ in lengths])
    num_keys = np.array([queries + past for queries, past in lengths])
    query = random_array(int(num_queries.sum()), heads[0], heads[2])
    key, value = random_array(2, int(num_keys.sum()), heads[1], heads[2], seed=1)
    longest = max(1, int(num_keys.max()))
    values = random_array(heads[0], 2 * longest - 1, seed=2)
    seen: dict[str, list[Any]] = {REFERENCE.name: [], ENGINES[name].name: []}
    outputs = []
    for engine in (REFERENCE, ENGINES[name]):
        convert = engine.asarray
        spans = Spans.of_lengths(num_keys)
        keys: Any = PackedKeyValues(convert(key), convert(value), spans)
        if paged:
            size = engine.page_size
            counts = -(-num_keys // size)
            pages = np.random.default_rng(3).permutation(int(counts.sum()))
            table_spans = Spans.of_lengths(counts)
            places = np.concatenate([np.arange(n) for n in num_keys])
            begins = np.repeat(table_spans.begins, num_keys)
            slots = pages[begins + places // size] * size + places % size
            store = engine.key_value_store([KeysAndValues(*heads[1:])])
            store.grow(len(pages))
            table = PageTable(pages, table_spans, num_keys, slots)
            store.write(0, convert(key), convert(value), table)
            keys = PagedKeyValues(store, 0, table)

        def look(sequence: int, first: int, p: Any, seen: list[Any] = seen[engine.name], engine: Any = engine) -> Any:
            shown = engine.to_numpy(p)
            seen.extend((sequence, first + query, shown[:, query]) for query in range(shown.shape[1]))
            return p

        outputs.append(
            engine.attention(
                convert(query),
                Spans.of_lengths(num_queries),
                keys,
                ScoreRule(scale=0.3, mask=mask(window=window)),
                bias=DistanceBias(convert(values), longest - 1) if biased else None,
                hook=ProbabilityHook(look) if traced else None,
            )
        )
    close(ENGINES[name], outputs[1], outputs[0])
    for (*place, expected), (*own_place, ours) in zip(
        *(sorted(each, key=lambda shown: shown[:2]) for each in seen.values()), strict=True
    ):
        assert own_place == place
        # The reference engine has shorter runs, with fewer visible keys.
        np.testing.assert_allclose(ours[..., : expected.shape[-1]], expected, atol=1e-6)
        assert not ours[..., expected.shape[-1] :].any()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_family_equals_transformers(case: Case, tmp_path: Path) -> None:
    reference = make_checkpoint(case, tmp_path)
    for name in ("reference", *NAMES):
        model = triform.load(tmp_path, engine=name)
        compare(model, reference, *random_inputs(case, model))
