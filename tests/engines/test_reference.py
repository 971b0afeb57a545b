"""Every operation of the reference engine against a naive or an exact definition."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.engines import FLOATS
from triform.engines import (
    DistanceBias,
    Format,
    Integers,
    KeysAndValues,
    KeyValues,
    PackedKeyValues,
    PagedKeyValues,
    PageTable,
    ParameterRole,
    RelativeEmbeddings,
    Spans,
    StoredTensor,
    create_engine,
)
from triform.engines.reference.activation import FUNCTIONS, PIECE, activate, erf
from triform.errors import EngineError
from triform.spec import Activation, Bidirectional, Causal, Mask, Pooling, ScoreRule

ENGINE = create_engine("reference")
Floats = NDArray[np.float32]


def random_array(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(actual: Floats, expected: NDArray[np.floating], tolerance: float = 1e-5) -> None:
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max(initial=0) <= tolerance * max(1, np.abs(expected).max(initial=0))


def test_erf_to_the_last_bits() -> None:
    x = np.linspace(-6, 6, 200_001).astype(np.float32)
    exact = np.array([math.erf(number) for number in x.tolist()])
    assert np.abs(erf(x) - exact).max() < 1.5e-7


@pytest.mark.parametrize(
    ("activation", "reference"),
    [
        (Activation.GELU, torch.nn.functional.gelu),
        (Activation.GELU_TANH, lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
        (Activation.RELU, torch.relu),
        (Activation.SILU, torch.nn.functional.silu),
        (Activation.TANH, torch.tanh),
    ],
)
def test_activations(activation: Activation, reference: object) -> None:
    # Longer than a piece, and with a rest.
    x = np.concatenate([np.linspace(-20, 20, PIECE + 7), [-1e4, 1e4, -1e30, 0]]).astype(np.float32)
    expected = reference(torch.tensor(x, dtype=torch.float64)).numpy()  # type: ignore[operator]
    actual = x.copy()
    activate(actual, activation)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert set(FUNCTIONS) == set(Activation)


@pytest.mark.parametrize("format", FLOATS, ids=str)
def test_formats_are_torchs(format: Format) -> None:
    special = [0.0, -0.0, 1.0, 65519.0, 65520.0, 1e38, 3.4e38, 1e-8, 1e-41, np.inf, -np.inf, np.nan]
    numbers = np.concatenate([random_array(1000), np.array(special, np.float32)])
    dtype = getattr(torch, format.name)
    parameter = ENGINE.prepare("x", StoredTensor(numbers, Format.FLOAT32), format, ParameterRole.VECTOR)
    expected = torch.tensor(numbers).to(dtype)
    stored = ENGINE.stored(parameter)
    bits = np.int16 if format is not Format.FLOAT32 else np.int32
    is_number = ~np.isnan(numbers)
    same_bits = expected.view(torch.int16 if bits is np.int16 else torch.int32).numpy()
    np.testing.assert_array_equal(stored.array.view(bits)[is_number], same_bits[is_number])
    table = ENGINE.prepare(
        "x", StoredTensor(numbers[:1000].reshape(50, 20), Format.FLOAT32), format, ParameterRole.TABLE
    )
    rows = ENGINE.embedding(np.array([3, 3, 49]), table)
    np.testing.assert_array_equal(rows, expected.float().numpy()[:1000].reshape(50, 20)[[3, 3, 49]])


def test_float32_parameters_are_not_copied() -> None:
    numbers = random_array(4, 4)
    parameter = ENGINE.prepare("x", StoredTensor(numbers, Format.FLOAT32), Format.FLOAT32, ParameterRole.LINEAR)
    assert ENGINE.stored(parameter).array is numbers


def test_linear_with_all_it_may_fuse() -> None:
    x, weight, bias, residual = random_array(5, 8), random_array(3, 8), random_array(3), random_array(5, 3)
    w = ENGINE.prepare("w", StoredTensor(weight, Format.FLOAT32), Format.FLOAT32, ParameterRole.LINEAR)
    b = ENGINE.prepare("b", StoredTensor(bias, Format.FLOAT32), Format.FLOAT32, ParameterRole.VECTOR)
    y = x.astype(np.float64) @ weight.T.astype(np.float64)
    close(ENGINE.linear(x, w), y)
    close(ENGINE.linear(x, w, b, activation=Activation.RELU, residual=residual), np.maximum(y + bias, 0) + residual)
    gated = ENGINE.gated_linear(x, w, w, b, None, Activation.TANH)
    close(gated, np.tanh(y + bias) * y)


@pytest.mark.parametrize("width", [7, 384, 9000])
def test_norms_do_not_depend_on_the_number_of_rows(width: int) -> None:
    x = random_array(33, width)
    vector = ENGINE.prepare(
        "w", StoredTensor(random_array(width), Format.FLOAT32), Format.FLOAT32, ParameterRole.VECTOR
    )
    layer_norm = ENGINE.layer_norm(x, vector, vector, 1e-12)
    rms_norm = ENGINE.rms_norm(x, vector, 1e-6)
    for row in range(len(x)):
        np.testing.assert_array_equal(ENGINE.layer_norm(x[row : row + 1], vector, vector, 1e-12), layer_norm[row][None])
        np.testing.assert_array_equal(ENGINE.rms_norm(x[row : row + 1], vector, 1e-6), rms_norm[row][None])
    exact = x.astype(np.float64)
    weight = ENGINE.stored(vector).array
    normalised = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-12)
    close(layer_norm, normalised * weight + weight)
    close(rms_norm, exact / np.sqrt(np.square(exact).mean(-1, keepdims=True) + 1e-6) * weight)


def naive_attention(
    query: Floats, key: Floats, value: Floats, *, scale: float, causal: bool, bias: Floats | None, zero: int
) -> NDArray[np.float64]:
    """Compute one head, a number at a time: query (Q, H), key and value (S, H), bias by distance (R,)."""
    num_queries, num_keys = len(query), len(key)
    output = np.zeros((num_queries, value.shape[1]))
    for i in range(num_queries):
        position = num_keys - num_queries + i
        visible = range(position + 1) if causal else range(num_keys)
        scores = [float(query[i].astype(np.float64) @ key[j]) * scale for j in visible]
        if bias is not None:
            scores = [score + float(bias[j - position + zero]) for j, score in zip(visible, scores, strict=True)]
        weights = [math.exp(score - max(scores)) for score in scores]
        for j, weight in zip(visible, weights, strict=True):
            output[i] += weight / sum(weights) * value[j]
    return output


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 70), st.integers(0, 150)), min_size=1, max_size=4),
    groups=st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]),
    head_dim=st.sampled_from([1, 5, 8]),
    causal=st.booleans(),
    biased=st.booleans(),
    paged=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_attention(
    lengths: list[tuple[int, int]],
    groups: tuple[int, int],
    head_dim: int,
    causal: bool,
    biased: bool,
    paged: bool,
    seed: int,
) -> None:
    """Any number of queries follows any number of earlier keys, packed or in unordered pages."""
    num_heads, num_groups = groups
    queries = np.array([new for new, _ in lengths])
    totals = np.array([new + old for new, old in lengths])
    query = random_array(int(queries.sum()), num_heads, head_dim, seed=seed)
    key = random_array(int(totals.sum()), num_groups, head_dim, seed=seed + 1)
    value = random_array(int(totals.sum()), num_groups, head_dim, seed=seed + 2)
    zero = int(totals.max()) - 1
    distances = random_array(num_heads, 2 * zero + 1, seed=seed + 3)
    spans = Spans.of_lengths(totals)
    output = ENGINE.attention(
        query,
        Spans.of_lengths(queries),
        in_pages(key, value, spans, seed) if paged else PackedKeyValues(key, value, spans),
        ScoreRule(scale=0.3, mask=Causal() if causal else Bidirectional()),
        bias=DistanceBias(distances, zero) if biased else None,
    )
    for (first, last), (begin, end) in zip(Spans.of_lengths(queries).pairs(), spans.pairs(), strict=True):
        for head in range(num_heads):
            group = head // (num_heads // num_groups)
            expected = naive_attention(
                query[first:last, head],
                key[begin:end, group],
                value[begin:end, group],
                scale=0.3,
                causal=causal,
                bias=distances[head] if biased else None,
                zero=zero,
            )
            close(output[first:last, head], expected)


def test_relative_embeddings_meet_queries_and_keys() -> None:
    """Shaw et al. 2018 and He et al. 2021: compare each score with the sum over the row of the embeddings."""
    length, past, num_heads, num_groups, head_dim = 9, 4, 4, 2, 8
    query = random_array(length - past, num_heads, head_dim)
    key, value = (random_array(length, num_groups, head_dim, seed=seed) for seed in (1, 2))
    rows = np.random.default_rng(3).integers(0, 6, 2 * length - 1)
    bias = RelativeEmbeddings(
        query=random_array(6, num_heads, head_dim, seed=4),
        key=random_array(6, num_groups, head_dim, seed=5),
        rows=rows,
        zero=length - 1,
    )
    spans, keys = Spans.of_lengths(np.array([length - past])), Spans.of_lengths(np.array([length]))
    rule = ScoreRule(scale=0.3, mask=Bidirectional())
    output = ENGINE.attention(query, spans, PackedKeyValues(key, value, keys), rule, bias=bias)
    distance = np.arange(length) - np.arange(past, length)[:, None]
    e = rows[distance + length - 1]
    for head in range(num_heads):
        q, k = query[:, head].astype(np.float64), key[:, head // 2].astype(np.float64)
        scores = q @ k.T + (q[:, None] * bias.key[e, head // 2]).sum(-1) + (bias.query[e, head] * k).sum(-1)
        weights = np.exp(0.3 * scores)
        close(output[:, head], weights / weights.sum(-1, keepdims=True) @ value[:, head // 2])
    for name in ("native", "torch:cpu"):
        engine = create_engine(name)
        own_query, *own = (engine.asarray(x) for x in (query, key, value))
        with pytest.raises(EngineError, match="no relative embeddings yet. Load the model with engine='reference'"):
            engine.attention(own_query, spans, PackedKeyValues(own[0], own[1], keys), rule, bias=bias)


def in_pages(key: Floats, value: Floats, spans: Spans, seed: int) -> KeyValues:
    """Write the same keys and values to a store, with random pages for each sequence."""
    store = ENGINE.key_value_store([KeysAndValues(*key.shape[1:])] * 2)
    size = ENGINE.page_size
    counts = -(-spans.lengths // size)
    pages: Integers = np.random.default_rng(seed).permutation(int(counts.sum()) + 3)[: counts.sum()]
    owned = Spans.of_lengths(counts)
    slots = [
        pages[first + j // size] * size + j % size
        for first, length in zip(owned.begins, spans.lengths, strict=True)
        for j in range(length)
    ]
    table = PageTable(pages, owned, spans.lengths, np.array(slots, np.int64))
    store.grow(len(pages) + 3)
    store.write(1, key, value, table)
    store.grow(len(pages) + 9)
    return PagedKeyValues(store, 1, table)


def test_attention_never_holds_the_scores_of_a_long_text() -> None:
    import tracemalloc

    length, heads, head_dim = 3000, 4, 8
    query = random_array(length, heads, head_dim)
    spans = Spans.of_lengths(np.array([length]))
    tracemalloc.start()
    ENGINE.attention(query, spans, PackedKeyValues(query, query, spans), ScoreRule(scale=1.0, mask=Bidirectional()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * length * heads * 4 * 128 < 4 * length * length * heads


@pytest.mark.parametrize("pooling", list(Pooling))
def test_pooling(pooling: Pooling) -> None:
    x, spans = random_array(9, 4), Spans(np.array([0, 2, 3]), np.array([2, 3, 9]))
    definitions: dict[Pooling, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        Pooling.FIRST: lambda rows: rows[0],
        Pooling.LAST: lambda rows: rows[-1],
        Pooling.MAX: lambda rows: rows.max(0),
        Pooling.MEAN: lambda rows: rows.mean(0),
        Pooling.MEAN_SQRT_LENGTH: lambda rows: rows.sum(0) / len(rows) ** 0.5,
        Pooling.WEIGHTED_MEAN: lambda rows: np.average(rows, axis=0, weights=np.arange(1, len(rows) + 1)),
    }
    expected = definitions[pooling]
    close(ENGINE.pool(x, spans, pooling), np.stack([expected(x[b:e].astype(np.float64)) for b, e in spans.pairs()]))


def test_top_k_prefers_the_lower_index_among_equals() -> None:
    values, indices = ENGINE.top_k(np.array([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]], np.float32), 3)
    assert indices.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert values.tolist() == [[3, 3, 2], [0, 0, 0]]
    assert ENGINE.top_k(np.array([[1.0, 3.0, 3.0]], np.float32), 1)[1].tolist() == [[1]]


def test_rotary_leaves_channels_beyond_its_own() -> None:
    x = random_array(3, 2, 8)
    table = ENGINE.rotary_table(np.array([0, 1, 5]), np.array([1.0, 0.1], np.float32))
    y = ENGINE.rotary(x, table)
    np.testing.assert_array_equal(y[..., 4:], x[..., 4:])
    np.testing.assert_array_equal(y[0], x[0])
    turned = (x[2, :, 0] + 1j * x[2, :, 2]) * np.exp(5j)
    close(y[2, :, 0], turned.real)
    close(y[2, :, 2], turned.imag)


def test_an_unknown_engine_or_format_is_refused() -> None:
    with pytest.raises(EngineError, match="engine='cuda' is not known. Choose one of: auto, native, reference"):
        create_engine("cuda")


@pytest.mark.parametrize("mask", [Bidirectional, Causal])
@pytest.mark.parametrize("window", [1, 3, 200])
def test_a_window_hides_keys_that_are_far(mask: type[Mask], window: int) -> None:
    length = 150
    query, key, value = (random_array(length, 2, 4, seed=seed) for seed in range(3))
    spans = Spans.of_lengths(np.array([length]))
    rule = ScoreRule(scale=0.5, mask=mask(window=window))
    output = ENGINE.attention(query, spans, PackedKeyValues(key, value, spans), rule)
    distance = np.arange(length) - np.arange(length)[:, None]
    visible = (np.abs(distance) < window) & ((distance <= 0) | (mask is Bidirectional))
    for head in range(2):
        scores = np.where(visible, 0.5 * query[:, head].astype(np.float64) @ key[:, head].T, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        close(output[:, head], weights / weights.sum(-1, keepdims=True) @ value[:, head])
