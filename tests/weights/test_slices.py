"""Slices of tensors: every step and every composition has an inverse."""

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from triform.weights import Flatten, SliceStep, Split, Stack, TensorSlice, Transpose, join_slices

Layout = tuple[SliceStep, ...]


def all_slices(layout: Layout, tensor: str = "x") -> list[TensorSlice]:
    """Return every slice of a tensor with this layout."""
    parts = product(*(range(step.num_parts) for step in layout))
    return [TensorSlice(tensor, tuple(step.at(i) for step, i in zip(layout, own, strict=True))) for own in parts]


def numbered(*shape: int) -> NDArray[np.float32]:
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


@st.composite
def splits(draw: st.DrawFn) -> tuple[int, Split]:
    """Draw a number of rows, and a split of the rows."""
    shares = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    groups = draw(st.integers(1, 3))
    return sum(shares) * groups * draw(st.integers(1, 2)), Split(shares, groups)


def possible_steps(shape: tuple[int, ...]) -> list[SliceStep]:
    """Return the steps possible for an array of this shape."""
    splits = (Split(shares, groups) for shares in ((1, 1), (1, 1, 1), (1, 2), (2, 1, 1)) for groups in (1, 2, 3))
    flattens = (Flatten(shape[axis:]) for axis in range(len(shape)))
    transposes = (Transpose(axes) for axes in permutations(range(len(shape))))
    return [step for step in (Stack(*shape[:1] or [1]), *splits, *flattens, *transposes) if step.part_shape(shape)]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], Layout]:
    """Draw the shape of a whole tensor, and steps possible for every part."""
    whole = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 12]), min_size=1, max_size=4)))
    shapes, layout = {whole}, Layout()
    for _ in range(draw(st.integers(0, 4))):
        possible = [step for step in possible_steps(min(shapes)) if all(step.part_shape(shape) for shape in shapes)]
        if not possible:
            break
        step = draw(st.sampled_from(possible))
        layout += (step,)
        parts = [step.at(part).part_shape(shape) for shape in shapes for part in range(step.num_parts)]
        shapes = {part for part in parts if part is not None}
    return whole, layout


def check(shape: tuple[int, ...], layout: Layout) -> None:
    """Check: each number lies in one part, shapes convert both ways, and the parts join to the whole."""
    whole = numbered(*shape)
    parts = {own: own.cut(whole) for own in all_slices(layout)}
    for own, part in parts.items():
        assert own.part_shape(shape) == part.shape
        assert own.whole_shape(part.shape) == shape
    assert sorted(number for part in parts.values() for number in part.ravel()) == whole.ravel().tolist()
    np.testing.assert_array_equal(join_slices(parts), whole)
    np.testing.assert_array_equal(join_slices(dict(reversed(parts.items()))), whole)


@given(splits(), st.lists(st.integers(1, 3), max_size=2))
def test_a_split_cuts_and_joins(rows_and_split: tuple[int, Split], rest: list[int]) -> None:
    rows, split = rows_and_split
    check((rows, *rest), (split,))
    assert split.part_shape((rows + 1, *rest)) is None or sum(split.shares) * split.groups == 1


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_stack_cuts_and_joins(shape: list[int]) -> None:
    check(tuple(shape), (Stack(shape[0]),))
    assert Stack(shape[0]).part_shape((shape[0] + 1, *shape[1:])) is None


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.data())
def test_a_transpose_cuts_and_joins(shape: list[int], data: st.DataObject) -> None:
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    check(tuple(shape), (Transpose(axes),))
    assert Transpose(axes).part_shape((*shape, 1)) is None


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.data())
def test_a_flatten_cuts_and_joins(shape: list[int], data: st.DataObject) -> None:
    sizes = tuple(shape[-data.draw(st.integers(1, len(shape))) :])
    check(tuple(shape), (Flatten(sizes),))
    assert Flatten(sizes).part_shape((*shape[:-1], shape[-1] + 1)) is None
    assert Flatten((2, *shape)).part_shape(tuple(shape)) is None


@given(layouts())
def test_every_composition_cuts_and_joins(shape_and_layout: tuple[tuple[int, ...], Layout]) -> None:
    check(*shape_and_layout)


def test_a_tensor_is_not_joined_of_some_of_its_parts() -> None:
    first, second = all_slices((Split((1, 1)),))
    with pytest.raises(AssertionError, match="expected 2 parts, got 1"):
        join_slices({first: numbered(2)})
    with pytest.raises(AssertionError, match="is a whole tensor"):
        join_slices({TensorSlice("x"): numbered(2), second: numbered(2)})


VIEWS: list[Layout] = [
    (),
    (Transpose(),),
    (Split((2, 1, 1)),),
    (Transpose(), Split((1, 1, 2))),
    (Split((1, 1), groups=4),),
    (Stack(8), Split((3, 1))),
    (Flatten((4,)),),
]


@pytest.mark.parametrize("layout", VIEWS, ids=str)
def test_parts_are_views_of_the_tensor(layout: Layout) -> None:
    whole = numbered(8, 4)
    assert all(np.shares_memory(own.cut(whole), whole) for own in all_slices(layout))


def test_slices_say_how_a_tensor_is_stored() -> None:
    assert str(TensorSlice("x")) == "x"
    assert str(TensorSlice("x", (Transpose(), Split((1, 1, 1), part=1)))) == "x (transposed, part 2 of 3)"
    assert str(TensorSlice("x", (Stack(8, part=3), Split((1, 1), groups=4)))) == (
        "x (entry 4 of 8, part 1 of 2 in each of 4 groups)"
    )
    assert str(TensorSlice("x", (Flatten((3, 2)),))) == "x (flattened)"
