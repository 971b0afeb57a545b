"""Integer formats against their formulas written out number by number, and their bounds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.engines import INTEGERS
from triform.engines import FORMATS, Format, ParameterRole, StoredTensor, create_engine
from triform.engines.formats.conversion import BLOCK_NUMBERS, convert, to_float32
from triform.engines.formats.floats import widen
from triform.engines.formats.integers import dequantize, quantize, quantize_rows
from triform.engines.reference.integer_linear import linear
from triform.errors import WeightError
from triform.spec import Activation

ENGINE = create_engine("reference")
F = np.float32
Floats = NDArray[np.float32]

# Up to 2¹²⁷: rounding up must not give infinity.
numbers = st.floats(-(2.0**127), 2.0**127, width=32) | st.sampled_from([0.0, 1.0, -1.0, 2.0**-149])
matrices = st.tuples(st.integers(1, 5), st.integers(1, 70)).flatmap(
    lambda shape: arrays.arrays(np.float32, shape, elements=numbers)
)


def random_array(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def scales_of(weight: StoredTensor) -> Floats:
    """Return a scale for each number, (out, in)."""
    assert weight.scales is not None
    if weight.format is Format.INT8:
        return np.broadcast_to(weight.scales[:, None], weight.shape)
    return np.repeat(widen(weight.scales, Format.BFLOAT16), 32, axis=1)[:, : weight.shape[1]]


@settings(deadline=None, max_examples=200)
@given(matrices)
def test_int8_is_half_a_step_away_at_most(weight: Floats) -> None:
    stored = quantize(weight, Format.INT8)
    assert stored.array.dtype == np.int8
    assert stored.scales is not None
    assert stored.scales.dtype == np.float32
    assert np.abs(stored.array).max() <= 127
    error = np.abs(dequantize(stored).astype(np.float64) - weight)
    # 1e-37: a channel with an infinite inverse scale becomes zeros.
    assert (error <= 0.50001 * scales_of(stored) + 4e-37).all()


@settings(deadline=None, max_examples=200)
@given(matrices)
def test_int4_is_half_a_step_away_or_one_at_the_end_that_has_no_eight(weight: Floats) -> None:
    stored = quantize(weight, Format.INT4)
    out, in_ = weight.shape
    groups = math.ceil(in_ / 32)
    assert stored.array.dtype == np.uint8
    assert stored.array.shape == (out, 16 * groups)
    assert stored.scales is not None
    assert stored.scales.dtype == np.uint16
    assert stored.scales.shape == (out, groups)
    assert stored.shape == weight.shape
    scales = scales_of(stored).astype(np.float64)
    with np.errstate(all="ignore"):
        ideal = np.where(scales == 0, 0, weight / scales)
    # −8 … 7 in steps of a scale rounded to eight bits; from 7.5 on the code is 7.
    bound = np.where(ideal > 7.5, 1 + 8 / 256, 0.5 + 8 / 256) * np.abs(scales)
    error = np.abs(dequantize(stored).astype(np.float64) - weight)
    assert (error <= bound + 3e-38).all()


@settings(deadline=None, max_examples=50)
@given(matrices)
def test_int4_by_its_formula_number_by_number(weight: Floats) -> None:
    stored = quantize(weight, Format.INT4)
    assert stored.scales is not None
    out, in_ = weight.shape
    for row in range(out):
        for group in range(math.ceil(in_ / 32)):
            own = weight[row, 32 * group : 32 * group + 32]
            greatest = max(own.tolist(), key=abs)
            scale = torch.tensor(greatest / -8, dtype=torch.float32).to(torch.bfloat16).float().numpy()
            with np.errstate(all="ignore"):
                inverse = F(1) / scale
            if not np.isfinite(inverse):
                scale, inverse = F(0), F(0)
            assert widen(stored.scales[row : row + 1, group], Format.BFLOAT16)[0] == scale
            for place in range(32):
                byte = stored.array[row, 16 * group + place % 16]
                nibble = byte & 15 if place < 16 else byte >> 4
                number = own[place] if place < len(own) else F(0)
                assert nibble == min(max(np.rint(F(number * inverse)) + 8, 0), 15)


@pytest.mark.parametrize("format", INTEGERS, ids=str)
def test_what_integers_can_say_comes_back(format: Format) -> None:
    top = {Format.INT8: 127, Format.INT4: -8}[format]
    q = np.random.default_rng(0).integers(-7, 8, (5, 96))
    q[:, ::32] = top
    weight = (q * F(0.25)).astype(np.float32)
    np.testing.assert_array_equal(dequantize(quantize(weight, format)), weight)


@pytest.mark.parametrize("format", INTEGERS, ids=str)
def test_noughts_and_what_is_next_to_them(format: Format) -> None:
    weight = np.zeros((3, 40), np.float32)
    weight[1] = 1e-45
    weight[2, 0] = 1
    stored = quantize(weight, format)
    assert stored.scales is not None
    assert not stored.scales[:2].any()
    assert (stored.array[:2] == (0 if format is Format.INT8 else 0x88)).all()
    np.testing.assert_array_equal(dequantize(stored), weight.round())


@pytest.mark.parametrize("format", INTEGERS, ids=str)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused(format: Format, number: float) -> None:
    weight = random_array(4, 50)
    weight[2, 49] = number
    with pytest.raises(WeightError, match="NaN or infinity"):
        quantize(weight, format)


def test_rows_are_quantized_each_by_itself() -> None:
    x = random_array(6, 33)
    x[1] = 0
    x[2, 5] = np.nan
    x[3, 6] = np.inf
    x[4] *= F(1e-38)
    x[5] = 3.4e38
    q, scale = quantize_rows(x)
    assert q.dtype == np.int8
    assert scale.dtype == np.float32
    assert scale[1] == scale[4] == 0
    assert np.isnan(scale[[2, 3]]).all()
    assert not q[1:5].any()
    assert (q[5] == 127).all()
    for row in range(6):
        one, its = quantize_rows(x[row : row + 1])
        np.testing.assert_array_equal(one[0], q[row])
        np.testing.assert_array_equal(its[0], scale[row])
    # 127 / max|x| = 2 here: halves go to the even one.
    halves = np.array([[63.5, 0.25, 0.75, 1.25, -0.25, -0.75]], np.float32)
    assert quantize_rows(halves)[0].tolist() == [[127, 0, 2, 2, 0, -2]]


@pytest.mark.parametrize("in_", [1, 31, 32, 33, 64, 100])
def test_int8_linear_is_a_loop_over_integers(in_: int) -> None:
    x, weight = random_array(3, in_), quantize(random_array(4, in_, seed=1), Format.INT8)
    assert weight.scales is not None
    y = linear(x, weight)
    q, scale = quantize_rows(x)
    for t in range(3):
        for o in range(4):
            total = sum(a * b for a, b in zip(q[t].tolist(), weight.array[o].tolist(), strict=True))
            assert y[t, o] == F(total) * (scale[t] * weight.scales[o])


@pytest.mark.parametrize("in_", [1, 31, 32, 33, 64, 100])
def test_int4_linear_is_a_loop_over_groups(in_: int) -> None:
    x, weight = random_array(3, in_), quantize(random_array(4, in_, seed=1), Format.INT4)
    assert weight.scales is not None
    y = linear(x, weight)
    q, scale = quantize_rows(x)
    for t in range(3):
        for o in range(4):
            total = F(0)
            for group in range(math.ceil(in_ / 32)):
                products = 0
                for place in range(min(32, in_ - 32 * group)):
                    byte = int(weight.array[o, 16 * group + place % 16])
                    nibble = byte & 15 if place < 16 else byte >> 4
                    products += int(q[t, 32 * group + place]) * (nibble - 8)
                total += F(products) * widen(weight.scales[o, group : group + 1], Format.BFLOAT16)[0]
            assert y[t, o] == total * scale[t]


@pytest.mark.parametrize("format", INTEGERS, ids=str)
def test_a_linear_in_integers_is_near_the_one_in_floats(format: Format) -> None:
    """Bound: both errors are uniform within half a step, and add up like a random walk."""
    x, weight = random_array(20, 256), random_array(30, 256, seed=1)
    stored, exact = quantize(weight, format), x.astype(np.float64) @ weight.T
    error = linear(x, stored) - exact
    step_x = np.abs(x).max(axis=1, keepdims=True) / 127
    variance = (np.square(x) @ np.square(scales_of(stored)).T + np.square(step_x) * np.square(weight).sum(axis=1)) / 12
    assert (np.abs(error) <= 6 * np.sqrt(variance)).all()


@pytest.mark.parametrize("format", INTEGERS, ids=str)
def test_the_reference_engine_holds_them(format: Format) -> None:
    x, weight, bias, residual = random_array(7, 50), random_array(9, 50, seed=1), random_array(9), random_array(7, 9)
    w = ENGINE.prepare("w", StoredTensor(weight, Format.FLOAT32), format, ParameterRole.LINEAR | ParameterRole.TABLE)
    b = ENGINE.prepare("b", StoredTensor(bias, Format.FLOAT32), Format.FLOAT32, ParameterRole.VECTOR)
    assert (w.shape, w.format) == ((9, 50), format)
    stored = quantize(weight, format)
    expected = np.maximum(linear(x, stored) + bias, 0) + residual
    np.testing.assert_array_equal(ENGINE.linear(x, w, b, activation=Activation.RELU, residual=residual), expected)
    np.testing.assert_array_equal(ENGINE.embedding(np.array([3, 3, 0]), w), dequantize(stored)[[3, 3, 0]])
    assert ENGINE.linear(x[:0], w, b).shape == (0, 9)
    x[2, 2] = np.nan
    is_lost = np.isnan(ENGINE.linear(x, w, b)).all(axis=1)
    assert is_lost.tolist() == [row == 2 for row in range(7)]


@pytest.mark.parametrize("target", FORMATS.values(), ids=str)
@pytest.mark.parametrize("source", FORMATS.values(), ids=str)
def test_every_format_becomes_every_other(source: Format, target: Format) -> None:
    tensor = convert(StoredTensor(random_array(5, 45), Format.FLOAT32), source)
    converted = convert(tensor, target)
    assert (converted.format, converted.shape) == (target, (5, 45))
    if target.is_integer and source is not target:
        expected = quantize(to_float32(tensor), target)
        np.testing.assert_array_equal(converted.array, expected.array)
        np.testing.assert_array_equal(converted.scales, expected.scales)
    else:
        np.testing.assert_allclose(to_float32(converted), to_float32(tensor), rtol=0.005)


@pytest.mark.parametrize("format", INTEGERS, ids=str)
def test_a_large_weight_is_quantized_in_blocks_of_rows(format: Format) -> None:
    weight = random_array(BLOCK_NUMBERS // 700 * 2 + 3, 700)
    converted, whole = convert(StoredTensor(weight, Format.FLOAT32), format), quantize(weight, format)
    np.testing.assert_array_equal(converted.array, whole.array)
    np.testing.assert_array_equal(converted.scales, whole.scales)
    assert converted.shape == weight.shape
