"""int8 and int4 on the native engine: to the last bit as the reference engine has them, with every instruction set."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines import INTEGERS
from triform.engines import Dense, Engine, Format, ParameterRole, StoredTensor, create_engine
from triform.engines.formats import Floats
from triform.engines.native import _kernels
from triform.spec import Activation

REFERENCE = create_engine("reference")
ROWS = st.one_of(st.integers(0, 30), st.sampled_from([95, 96, 97, 200]))
SIZES = st.one_of(st.integers(1, 100), st.sampled_from([255, 256, 257, 384, 1030]))


def random_array(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def dense(engine: Engine, weight: Floats, format: Format) -> Dense[Any]:
    return Dense(
        engine.prepare("w", StoredTensor(weight, Format.FLOAT32), format, ParameterRole.LINEAR),
        engine.prepare("b", StoredTensor(weight[:, 0], Format.FLOAT32), Format.FLOAT32, ParameterRole.VECTOR),
    )


@pytest.mark.parametrize("instruction_set", _kernels.instruction_sets())
@pytest.mark.parametrize("format", INTEGERS, ids=str)
@settings(max_examples=40, deadline=None)
@given(ROWS, SIZES, SIZES, st.booleans(), st.data())
def test_linears(
    instruction_set: str, format: Format, rows: int, inputs: int, outputs: int, adds: bool, data: st.DataObject
) -> None:
    weight = random_array(outputs, inputs, seed=data.draw(st.integers(0, 9)))
    x = random_array(rows, inputs, seed=1) * np.float32(data.draw(st.sampled_from([1e-30, 1, 1e30])))
    x[::5, :] = 0
    x[1::7, 0] = 300
    answers = []
    for engine in (REFERENCE, create_engine(f"native:{instruction_set}")):
        parameter = engine.prepare("w", StoredTensor(weight, Format.FLOAT32), format, ParameterRole.LINEAR)
        bias = engine.prepare(
            "b", StoredTensor(random_array(outputs), Format.FLOAT32), Format.FLOAT32, ParameterRole.VECTOR
        )
        with np.errstate(over="ignore"):
            residual = random_array(rows, outputs, seed=2) if adds else None
            answers.append(engine.linear(x, parameter, bias if adds else None, residual=residual))
    np.testing.assert_array_equal(answers[1], answers[0])


@pytest.mark.parametrize("instruction_set", _kernels.instruction_sets())
@pytest.mark.parametrize("format", INTEGERS, ids=str)
@settings(max_examples=20, deadline=None)
@given(ROWS, SIZES, st.lists(SIZES, min_size=1, max_size=4))
def test_several_linears_at_once(
    instruction_set: str, format: Format, rows: int, inputs: int, outputs: list[int]
) -> None:
    x = random_array(rows, inputs)
    answers = []
    for engine in (REFERENCE, create_engine(f"native:{instruction_set}")):
        several = [dense(engine, random_array(out, inputs, seed=seed), format) for seed, out in enumerate(outputs)]
        answers.append(engine.linears(x, several))
    for expected, found in zip(*answers, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("instruction_set", _kernels.instruction_sets())
@pytest.mark.parametrize("format", INTEGERS, ids=str)
@settings(max_examples=20, deadline=None)
@given(ROWS, SIZES, SIZES, st.sampled_from(Activation), st.booleans(), st.booleans())
def test_feed_forward(
    instruction_set: str,
    format: Format,
    rows: int,
    inputs: int,
    inner: int,
    activation: Activation,
    gated: bool,
    adds: bool,
) -> None:
    """Equal separate linears always, and the reference engine after RELU, to the last bit."""
    native = create_engine(f"native:{instruction_set}")
    x = random_array(rows, inputs)

    def run(engine: Engine, call: Callable[..., Floats]) -> Floats:
        gate, up = (dense(engine, random_array(inner, inputs, seed=seed), format) for seed in range(2))
        down = dense(engine, random_array(inputs, inner, seed=2), format)
        return call(x, up, down, activation, gate=gate if gated else None, residual=x if adds else None)

    found = run(native, native.feed_forward)
    np.testing.assert_array_equal(found, run(native, partial(Engine.feed_forward, native)))
    if activation is Activation.RELU:
        np.testing.assert_array_equal(found, run(REFERENCE, REFERENCE.feed_forward))


@pytest.mark.parametrize("instruction_set", _kernels.instruction_sets())
@pytest.mark.parametrize("format", INTEGERS, ids=str)
@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES)
def test_packing_loses_nothing(instruction_set: str, format: Format, inputs: int, outputs: int) -> None:
    engine = create_engine(f"native:{instruction_set}")
    stored = StoredTensor(random_array(outputs, inputs), Format.FLOAT32)
    expected = REFERENCE.prepare("w", stored, format, ParameterRole.LINEAR | ParameterRole.TABLE)
    found = engine.prepare("w", stored, format, ParameterRole.LINEAR | ParameterRole.TABLE)
    rows = np.arange(outputs)
    np.testing.assert_array_equal(engine.embedding(rows, found), REFERENCE.embedding(rows, expected))
    ours, theirs = engine.stored(found), REFERENCE.stored(expected)
    assert ours.shape == theirs.shape
    assert ours.scales is not None
    np.testing.assert_array_equal(ours.array, theirs.array)
    np.testing.assert_array_equal(ours.scales, theirs.scales)


@pytest.mark.parametrize("instruction_set", _kernels.instruction_sets())
@pytest.mark.parametrize("format", INTEGERS, ids=str)
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_broken_row_is_nan_and_its_neighbours_are_not(instruction_set: str, format: Format, broken: float) -> None:
    engine = create_engine(f"native:{instruction_set}")
    weight = engine.prepare("w", StoredTensor(random_array(40, 70), Format.FLOAT32), format, ParameterRole.LINEAR)
    x = random_array(3, 70)
    x[1, 69] = broken
    y = engine.linear(x, weight)
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()
