"""Slices of checkpoint tensors: the part that is a parameter, as a frozen value with an inverse.

A checkpoint stores some parameters together in one tensor, or with their axes in another order. A `TensorSlice` names
the tensor and the steps from the tensor to the parameter. There are four steps:

    Split      shares of the rows of each group     [q | k | v]   (heads, 3, head_dim)   gate and up row by row
    Stack      one array of several, on a new axis  (experts, out, in)
    Transpose  axes in another order                (in, out)
    Flatten    the last axes as one axis            (D, C, P, P) ↔ (D, C·P·P)

A slice knows shapes and NumPy arrays. The names of tensors are the subject of `table.py`, their files of `tensors.py`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


class SliceStep(ABC):
    """An invertible step from a whole array to a part."""

    __slots__ = ()
    on_output_channels: ClassVar[bool]
    """Whether the step divides output channels, so that it also applies to their biases and scales."""

    @property
    def part(self) -> int:
        """The number of the part, from 0."""
        return 0

    @property
    def num_parts(self) -> int:
        """The number of parts of the whole array."""
        return 1

    def at(self, part: int) -> Self:
        """Return the step to another part of the same whole array."""
        assert part == 0
        return self

    @abstractmethod
    def part_shape(self, whole: Shape) -> Shape | None:
        """Return the shape of the part, or None if the step cannot divide the shape `whole`."""

    @abstractmethod
    def whole_shape(self, part: Shape) -> Shape:
        """Return the shape of the whole array if the part has the shape `part`."""

    @abstractmethod
    def cut(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return the part, of shape `part_shape(whole.shape)`: a view where NumPy can make one."""

    @abstractmethod
    def join(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the whole array from its parts in order, each of the shape that `part_shape` gives."""


@dataclass(frozen=True, slots=True)
class Split(SliceStep):
    """A share of the rows of each group, along the first axis.

    Shares are relative: the number of rows of one unit follows from the length of the axis. So the shares of a fused
    query, key and value are numbers of heads, whatever the size of a head.

        Split((1, 1, 1))                equal parts: GPT-2's c_attn, ModernBERT's Wqkv (3, heads, head_dim)
        Split((32, 8, 8))               unequal parts: Phi-3's qkv_proj with grouped queries
        Split((1, 1, 1), groups=heads)  head by head: GPT-NeoX's query_key_value (heads, 3, head_dim)
        Split((4, 1, 1), groups=8)      by key heads: Falcon's new decoder, with four queries to a key and a value
        Split((1, 1), groups=rows)      row by row: gpt-oss's gate_up_proj, gate in even rows and up in odd ones
    """

    on_output_channels = True
    shares: tuple[int, ...]
    groups: int = 1
    part: int = 0

    def __str__(self) -> str:
        groups = f" in each of {self.groups} groups" if self.groups > 1 else ""
        return f"part {self.part + 1} of {self.num_parts}{groups}"

    @property
    def num_parts(self) -> int:
        return len(self.shares)

    def at(self, part: int) -> Self:
        return replace(self, part=part)

    def part_shape(self, whole: Shape) -> Shape | None:
        if not whole or whole[0] % (self.groups * sum(self.shares)):
            return None
        return (whole[0] // sum(self.shares) * self.shares[self.part], *whole[1:])

    def whole_shape(self, part: Shape) -> Shape:
        return (part[0] // self.shares[self.part] * sum(self.shares), *part[1:])

    def cut(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of the share, of shape (R · share / sum(shares), …), of an array (R, …)."""
        grouped = self._grouped(whole)
        unit = grouped.shape[1] // sum(self.shares)
        begin = unit * sum(self.shares[: self.part])
        rows = grouped[:, begin : begin + unit * self.shares[self.part]]
        return rows.reshape(-1, *whole.shape[1:])

    def join(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the array (R, …) of rows of the shapes (R · share / sum(shares), …)."""
        return np.concatenate([self._grouped(part) for part in parts], axis=1).reshape(-1, *parts[0].shape[1:])

    def _grouped(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(self.groups, len(array) // self.groups, *array.shape[1:])


@dataclass(frozen=True, slots=True)
class Stack(SliceStep):
    """An array of several, stacked along an additional first axis.

    Stack(8): an expert of Granite-MoE's input_linear (experts, 2·F, D).
    Stack(1): the only row of BART's final_logits_bias (1, V) or of ViT's position_embeddings (1, positions, D).
    """

    on_output_channels = True
    count: int
    part: int = 0

    def __str__(self) -> str:
        return f"entry {self.part + 1} of {self.count}"

    @property
    def num_parts(self) -> int:
        return self.count

    def at(self, part: int) -> Self:
        return replace(self, part=part)

    def part_shape(self, whole: Shape) -> Shape | None:
        return whole[1:] if whole[:1] == (self.count,) else None

    def whole_shape(self, part: Shape) -> Shape:
        return (self.count, *part)

    def cut(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return one array, of shape (…), of several (N, …)."""
        part: NDArray[Any] = whole[self.part]
        return part

    def join(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the array (N, …) of N arrays of shape (…)."""
        return np.stack(parts)


@dataclass(frozen=True, slots=True)
class Transpose(SliceStep):
    """The array with its axes in another order: axis i of the part is axis `axes[i]` of the whole, as in NumPy.

    Transpose(): a linear that is stored (in, out), as all of GPT-2 and each expert of gpt-oss.
    Transpose((0, 2, 1)): Whisper's conv1, stored (out, in, kernel), as (out, kernel, in).
    """

    on_output_channels = False
    axes: tuple[int, ...] = (1, 0)

    def __str__(self) -> str:
        return "transposed"

    def part_shape(self, whole: Shape) -> Shape | None:
        return tuple(whole[axis] for axis in self.axes) if len(whole) == len(self.axes) else None

    def whole_shape(self, part: Shape) -> Shape:
        return tuple(part[axis] for axis in self._inverse())

    def cut(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return a view with the axes in the order `axes`: shape (in, out) → (out, in)."""
        return whole.transpose(self.axes)

    def join(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return a view with the axes in the stored order: shape (out, in) → (in, out)."""
        [part] = parts
        return part.transpose(self._inverse())

    def _inverse(self) -> tuple[int, ...]:
        return tuple(self.axes.index(axis) for axis in range(len(self.axes)))


@dataclass(frozen=True, slots=True)
class Flatten(SliceStep):
    """The last axes of the whole array, of the lengths `sizes`, as one axis.

    Flatten((3, 16, 16)): ViT's patch embedding, stored as a convolution (D, 3, 16, 16), as a linear (D, 768).
    """

    on_output_channels = False
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return "flattened"

    def part_shape(self, whole: Shape) -> Shape | None:
        kept = max(0, len(whole) - len(self.sizes))
        return (*whole[:kept], math.prod(self.sizes)) if whole[kept:] == self.sizes else None

    def whole_shape(self, part: Shape) -> Shape:
        return (*part[:-1], *self.sizes)

    def cut(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return the array (…, *sizes) in the shape (…, prod(sizes))."""
        return whole.reshape(*whole.shape[: -len(self.sizes)], -1)

    def join(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the array (…, prod(sizes)) in the shape (…, *sizes)."""
        [part] = parts
        return part.reshape(*part.shape[:-1], *self.sizes)


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A parameter as a part of a checkpoint tensor."""

    tensor: str
    steps: tuple[SliceStep, ...] = ()
    """The way from the tensor to the parameter; without steps the parameter is the whole tensor."""

    def __str__(self) -> str:
        return self.tensor + (f" ({', '.join(map(str, self.steps))})" if self.steps else "")

    def part_shape(self, whole: Shape) -> Shape | None:
        """Return the shape of the parameter, or None if the steps cannot divide the shape `whole`."""
        shape: Shape | None = whole
        for step in self.steps:
            shape = None if shape is None else step.part_shape(shape)
        return shape

    def whole_shape(self, part: Shape) -> Shape:
        """Return the shape of the tensor if the parameter has the shape `part`."""
        for step in reversed(self.steps):
            part = step.whole_shape(part)
        return part

    def cut(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return the parameter, of shape `part_shape(whole.shape)`: a view of the tensor where NumPy can make one."""
        for step in self.steps:
            whole = step.cut(whole)
        return whole

    def of_output_channels(self) -> "TensorSlice":
        """Return the same slice of a tensor with one row for each output channel: a bias, scales, or LoRA's B."""
        return replace(self, steps=tuple(step for step in self.steps if step.on_output_channels))


def join_slices(parts: Mapping[TensorSlice, NDArray[Any]]) -> NDArray[Any]:
    """Return a tensor from all slices of the tensor, the inverse of `TensorSlice.cut`.

    Arguments:
        parts: slice → array of the shape that `part_shape` gives.
    """
    [(first, array), *others] = parts.items()
    if not first.steps:
        assert not others, f"{first} is a whole tensor and not one of {len(parts)} parts"
        return array
    inner: dict[int, dict[TensorSlice, NDArray[Any]]] = {}
    for tensor_slice, part in parts.items():
        step, *rest = tensor_slice.steps
        inner.setdefault(step.part, {})[replace(tensor_slice, steps=tuple(rest))] = part
    step = first.steps[0]
    assert sorted(inner) == list(range(step.num_parts)), f"{first}: expected {step.num_parts} parts, got {len(inner)}"
    return step.join([join_slices(inner[part]) for part in range(step.num_parts)])
