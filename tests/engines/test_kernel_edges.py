"""Kernels at the edges of their vectors, tiles and pages. `.ci/sanitize` runs this with sanitizers in the kernels.

All arrays that the kernels read or write end at a protected page.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.engines import FLOATS, INTEGERS, guard_pages
from triform.engines import (
    FORMATS,
    Dense,
    DistanceBias,
    Engine,
    Format,
    KeysAndValues,
    PackedKeyValues,
    PagedKeyValues,
    PageTable,
    ParameterRole,
    Spans,
    StoredTensor,
    create_engine,
)
from triform.engines.native import attention as attention_module
from triform.engines.native import engine as engine_module
from triform.engines.native._kernels import instruction_sets, num_threads, set_num_threads
from triform.engines.reference import ReferenceEngine
from triform.spec import Activation, Bidirectional, Causal, Mask, Pooling, ScoreRule

REFERENCE = ReferenceEngine()
WIDTHS = (1, 15, 16, 17, 31, 32, 33, 255, 256, 257)
ROWS = (0, 1, 2, 11, 12, 13, 95, 97)
LENGTHS = ([1], [32], [33, 1, 64], [31, 65])
Floats = NDArray[np.float32]


@pytest.fixture(scope="module", params=instruction_sets())
def native(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Use two threads: from 96 rows on, each thread takes a part of the rows, on every machine."""
    before = num_threads()
    set_num_threads(2)
    yield create_engine(f"native:{request.param}")
    set_num_threads(before)


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every array of the engine end at a protected page."""
    for name in ("zeros", "empty"):
        monkeypatch.setattr(np, name, guard_pages.zeros)
    for module in (engine_module, attention_module):
        monkeypatch.setattr(module, "empty", lambda *shape: guard_pages.zeros(shape, np.float32))


def random_array(*shape: int, seed: int = 0) -> Floats:
    return guard_pages.copy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def close(actual: Floats, expected: Floats) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max(initial=0) <= 1e-5 * max(1, np.abs(expected).max(initial=0))


def both(native: Engine, array: Floats, role: ParameterRole, format: Format = Format.FLOAT32) -> tuple[Any, Any]:
    """Return a parameter of the native engine, and the same parameter of the reference engine."""
    stored = StoredTensor(array, Format.FLOAT32)
    return native.prepare("w", stored, format, role), REFERENCE.prepare("w", stored, format, role)


@pytest.mark.parametrize("format", FLOATS, ids=str)
@pytest.mark.parametrize("inputs", WIDTHS)
def test_linear(native: Engine, inputs: int, format: Format) -> None:
    for outputs in (1, 31, 32, 33, 100):
        weight = both(
            native,
            random_array(outputs, inputs) * np.float32(inputs**-0.5),
            ParameterRole.LINEAR | ParameterRole.TABLE,
            format,
        )
        bias = both(native, random_array(outputs, seed=1), ParameterRole.VECTOR)
        ids = np.array([outputs - 1, 0])
        np.testing.assert_array_equal(native.embedding(ids, weight[0]), REFERENCE.embedding(ids, weight[1]))
        for rows in ROWS:
            x, residual = random_array(rows, inputs, seed=2), random_array(rows, outputs, seed=3)
            found, expected = (
                engine.linear(x, w, b, activation=Activation.GELU, residual=residual)
                for engine, w, b in zip((native, REFERENCE), weight, bias, strict=True)
            )
            close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("format", INTEGERS, ids=str)
@pytest.mark.parametrize("inputs", WIDTHS)
def test_integers(native: Engine, inputs: int, format: Format) -> None:
    """Linears, alone and several at once, agree to the last bit."""
    for rows, outputs in product(ROWS, (1, 31, 32, 33, 100)):
        x, residual = random_array(rows, inputs, seed=2), random_array(rows, outputs, seed=3)
        weights = [
            both(native, random_array(outputs + i, inputs, seed=i), ParameterRole.LINEAR, format) for i in range(3)
        ]
        bias = both(native, random_array(outputs, seed=1), ParameterRole.VECTOR)
        found, expected = (
            [
                engine.linear(x, weights[0][place], bias[place], residual=residual),
                engine.linear(x, weights[0][place], activation=Activation.RELU),
                *engine.linears(x, [Dense(weight[place], None) for weight in weights]),
            ]
            for place, engine in enumerate((native, REFERENCE))
        )
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS.values(), ids=str)
@pytest.mark.parametrize("sizes", [(1, 1), (31, 33), (32, 64), (33, 100), (257, 31), (64, 257)], ids=str)
def test_feed_forward(native: Engine, sizes: tuple[int, int], format: Format) -> None:
    """Fused calls equal separate linears to the last bit; the reference engine agrees, in integers to the last bit."""
    width, inner = sizes
    shapes = {"gate": (inner, width), "up": (inner, width), "down": (width, inner)}
    weights = {
        name: both(native, random_array(*shape, seed=seed) * np.float32(shape[1] ** -0.5), ParameterRole.LINEAR, format)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    biases = {
        name: both(native, random_array(shape[0], seed=4), ParameterRole.VECTOR) for name, shape in shapes.items()
    }
    composed = partial(Engine.feed_forward, native)
    for rows, gated, adds, biased in product(ROWS, *[(False, True)] * 3):
        x = random_array(rows, width, seed=5)
        found = []
        for place, call in ((0, native.feed_forward), (0, composed), (1, REFERENCE.feed_forward)):
            gate, up, down = (Dense(weights[n][place], biases[n][place] if biased else None) for n in shapes)
            # After RELU the reference engine has the same bits; after other activations, integers may round apart.
            found.append(call(x, up, down, Activation.RELU, gate=gate if gated else None, residual=x if adds else None))
        np.testing.assert_array_equal(found[0], found[1])
        if format.is_integer:
            np.testing.assert_array_equal(found[0], found[2])
        else:
            close(found[0], found[2])


@pytest.mark.parametrize("width", WIDTHS)
def test_rows(native: Engine, width: int) -> None:
    weight, bias = (both(native, random_array(width, seed=seed), ParameterRole.VECTOR) for seed in (0, 1))
    for rows in ROWS:
        x = random_array(rows, width, seed=2)
        close(native.layer_norm(x, weight[0], bias[0], 1e-5), REFERENCE.layer_norm(x, weight[1], bias[1], 1e-5))
        close(native.rms_norm(x, weight[0], 1e-5), REFERENCE.rms_norm(x, weight[1], 1e-5))
        close(native.normalize(x), REFERENCE.normalize(x))
        assert native.all_finite(x)
        heads = x.reshape(rows, 1, width)
        frequencies = np.geomspace(1, 1e-3, width // 2, dtype=np.float32)
        table = REFERENCE.rotary_table(np.arange(rows), frequencies)
        close(native.rotary(heads, table), REFERENCE.rotary(heads, table))


@pytest.mark.parametrize("width", WIDTHS)
def test_choice(native: Engine, width: int) -> None:
    for rows in (1, 3):
        x = random_array(rows, width).round(1)
        close(native.log_softmax(x), REFERENCE.log_softmax(x))
        for k in (1, 2, 16, width, width + 1):
            for operation in ("top_k", "top_log_probabilities"):
                values, indices = getattr(native, operation)(x, k)
                expected, places = getattr(REFERENCE, operation)(x, k)
                np.testing.assert_array_equal(indices, places)
                close(values, expected)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_sequences(native: Engine, lengths: list[int]) -> None:
    spans = Spans.of_lengths(np.array(lengths))
    for width in WIDTHS:
        x = random_array(sum(lengths), width)
        for pooling in Pooling:
            close(native.pool(x, spans, pooling), REFERENCE.pool(x, spans, pooling))
        for format in FLOATS:
            tables = [both(native, random_array(7, width, seed=seed), ParameterRole.TABLE, format) for seed in (0, 1)]
            ids = [np.random.default_rng(seed).integers(0, 7, sum(lengths)) for seed in (0, 1)]
            found, expected = (
                engine.embedding_sum([(own, table[place]) for own, table in zip(ids, tables, strict=True)])
                for place, engine in enumerate((native, REFERENCE))
            )
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("heads", [(2, 1, 1), (4, 2, 16), (3, 3, 33)], ids=str)
@pytest.mark.parametrize("mask", [Bidirectional, Causal])
def test_attention(native: Engine, lengths: list[int], heads: tuple[int, int, int], mask: type[Mask]) -> None:
    spans, longest = Spans.of_lengths(np.array(lengths)), max(lengths)
    query = random_array(sum(lengths), heads[0], heads[2])
    key, value = random_array(2, sum(lengths), *heads[1:], seed=1)
    bias = DistanceBias(random_array(heads[0], 2 * longest - 1, seed=2), longest - 1)
    for window in (None, 1, 32):
        rule = ScoreRule(scale=0.3, mask=mask(window=window))
        for own in (None, bias):
            found, expected = (
                engine.attention(query, spans, PackedKeyValues(key, value, spans), rule, bias=own)
                for engine in (native, REFERENCE)
            )
            close(found, expected)


def test_attention_of_many_sequences(native: Engine) -> None:
    """Enough sequences make a thread take several groups of a sequence at a time."""
    lengths = np.random.default_rng(2).integers(0, 70, 40)
    spans = Spans.of_lengths(lengths)
    query = random_array(int(lengths.sum()), 6, 16)
    key, value = random_array(2, int(lengths.sum()), 3, 16, seed=1)
    rule = ScoreRule(scale=0.3, mask=Bidirectional())
    found, expected = (
        engine.attention(query, spans, PackedKeyValues(key, value, spans), rule) for engine in (native, REFERENCE)
    )
    close(found, expected)
    for begin, end in spans.pairs():
        one = Spans.of_lengths(np.array([end - begin]))
        keys = PackedKeyValues(key[begin:end], value[begin:end], one)
        np.testing.assert_array_equal(native.attention(query[begin:end], one, keys, rule), found[begin:end])


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 65])
def test_pages(native: Engine, length: int) -> None:
    """The last query of a sequence attends to keys in pages, and to copies of the pages."""
    key, value = random_array(2, length, 2, 20)
    query, one = random_array(1, 4, 20, seed=1), Spans.of_lengths(np.array([1]))
    outputs = []
    for engine in (native, REFERENCE):
        count = -(-length // engine.page_size)
        spans, lengths, pages = Spans.of_lengths(np.array([count])), np.array([length]), np.arange(count)
        store = engine.key_value_store([KeysAndValues(2, 20)])
        store.grow(2 * count)
        store.write(0, key, value, PageTable(pages, spans, lengths, np.arange(length)))
        store.copy_pages(pages, pages + count)
        copied = PageTable(pages + count, spans, lengths, np.zeros(0, np.int64))
        rule = ScoreRule(scale=0.3, mask=Causal())
        outputs.append(engine.attention(query, one, PagedKeyValues(store, 0, copied), rule))
    close(*outputs)
