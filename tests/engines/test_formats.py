"""Formats as values: presets, names, and a format defined by the values alone."""

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from tests.engines import INTEGERS
from triform.engines import FORMATS, Format, StoredTensor, convert, create_engine, to_float32
from triform.engines.formats.integers import quantize
from triform.engines.reference.integer_linear import linear
from triform.errors import EngineError


def random_array(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_presets_go_by_the_names_of_dtype_arguments() -> None:
    assert list(FORMATS) == ["float32", "float16", "bfloat16", "int8", "int4"]
    for name, format in FORMATS.items():
        assert format is getattr(Format, name.upper())
        assert f"{format}" == name


def test_a_format_is_a_value() -> None:
    for format in FORMATS.values():
        copy = pickle.loads(pickle.dumps(format))
        assert copy == format
        assert {format: 1}[copy] == 1
        with pytest.raises(FrozenInstanceError):
            format.bits = 2  # type: ignore[misc]
    assert replace(Format.INT4, group_size=64) != Format.INT4


@pytest.mark.parametrize("format", INTEGERS, ids=str)
@pytest.mark.parametrize("in_features", [1, 32, 50])
def test_an_empty_weight_has_the_arrays_of_a_quantized_one(format: Format, in_features: int) -> None:
    empty, expected = StoredTensor.empty(format, 3, in_features), quantize(random_array(3, in_features), format)
    assert empty.scales is not None
    assert expected.scales is not None
    assert empty.shape == expected.shape == (3, in_features)
    assert (empty.array.shape, empty.array.dtype) == (expected.array.shape, expected.array.dtype)
    assert (empty.scales.shape, empty.scales.dtype) == (expected.scales.shape, expected.scales.dtype)
    assert empty.nbytes == expected.nbytes


def test_groups_of_another_size_need_no_conversion_of_their_own() -> None:
    format = replace(Format.INT4, name="int4 in groups of 16", group_size=16)
    weight, x = random_array(5, 40), random_array(4, 40)
    stored = convert(StoredTensor(weight, Format.FLOAT32), format)
    assert stored.scales is not None
    assert (stored.shape, stored.scales.shape) == ((5, 40), (5, 3))
    smaller, larger = (
        np.abs(to_float32(convert(StoredTensor(weight, Format.FLOAT32), own)) - weight).mean()
        for own in (format, Format.INT4)
    )
    assert smaller < larger
    np.testing.assert_allclose(linear(x, stored), x @ to_float32(stored).T, atol=0.2)
    with pytest.raises(EngineError, match=r"w: the native engine cannot hold int4 in groups of 16.*bfloat16, float16"):
        create_engine("native").check_format("w", format)
