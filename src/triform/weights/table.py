"""The names of a family's tensors, in checkpoints and here: an aligned table that reads both ways."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """What part of a checkpoint's tensor a parameter is."""

    tensor: str
    part: int = 0
    parts: int = 1
    """Of how many equal parts along the first axis, the output channels of a linear."""
    transposed: bool = False
    """Whether the tensor is stored (in, out)."""
    row: bool = False
    """Whether the tensor is a vector stored (1, n)."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The piece's shape, of a tensor of this one; () where the parts would not be equal."""
        if self.row:
            return shape[1:] if shape[:1] == (1,) else ()
        shape = shape[::-1] if self.transposed else shape
        if self.parts == 1:
            return shape
        return (shape[0] // self.parts, *shape[1:]) if shape and shape[0] % self.parts == 0 else ()

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The piece of a tensor: a view."""
        array = array[0] if self.row else array.T if self.transposed else array
        if self.parts == 1:
            return array
        size = len(array) // self.parts
        return array[self.part * size : (self.part + 1) * size]


def join(pieces: Mapping[TensorSlice, NDArray[Any]]) -> NDArray[Any]:
    """The tensor that pieces were cut of."""
    ordered = sorted(pieces, key=lambda piece: piece.part)
    whole = pieces[ordered[0]] if len(ordered) == 1 else np.concatenate([pieces[piece] for piece in ordered])
    return whole[None] if ordered[0].row else whole.T if ordered[0].transposed else whole


@dataclass(init=False)
class Rename:
    """A name in checkpoints ↔ its canonical name. `*` stands for one part between dots, in the same order in both.

    A tensor that holds several parameters one after another along its output channels names them all.
    """

    checkpoint: str
    canonical: tuple[str, ...]
    transposed: ClassVar[bool] = False
    row: ClassVar[bool] = False

    def __init__(self, checkpoint: str, *canonical: str) -> None:
        self.checkpoint = checkpoint
        self.canonical = canonical
        stars = {name.count("*") for name in (checkpoint, *canonical)}
        assert len(stars) == 1, f"{checkpoint} ↔ {canonical} cannot be reversed"

    def to_canonical(self, name: str) -> Iterator[tuple[str, TensorSlice]]:
        """The canonical names of the parameters in the tensor `name`, if this rule is about it."""
        for part, canonical in enumerate(self.canonical):
            found = _replace(self.checkpoint, canonical, name)
            if found is not None:
                yield found, self._piece(name, part)

    def to_checkpoint(self, name: str) -> TensorSlice | None:
        """Where a checkpoint has the parameter of this canonical name, if this rule is about it."""
        for part, canonical in enumerate(self.canonical):
            found = _replace(canonical, self.checkpoint, name)
            if found is not None:
                return self._piece(found, part)
        return None

    def _piece(self, name: str, part: int) -> TensorSlice:
        # The bias of a linear is a vector, however its weight lies.
        transposed = self.transposed and not name.endswith("bias")
        return TensorSlice(name, part, len(self.canonical), transposed=transposed, row=self.row)


class Transpose(Rename):
    """The same, of a linear that is stored (in, out)."""

    transposed = True


class Row(Rename):
    """The same, of a vector that is stored (1, n)."""

    row = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """All that a checkpoint of a family may hold. Of two rules to one canonical name, the first is preferred."""

    rules: tuple[Rename, ...]
    """The backbone's tensors."""
    heads: tuple[Rename, ...] = ()
    """Those of heads, which the loaded model may lack."""
    ignored: tuple[str, ...] = ()
    """Tensors that are known and not needed: buffers, and what the loaded form does not have. `*` spans dots here."""
    fixed: tuple[str, ...] = ()
    """Canonical names of what is no weight to be trained: buffers of the reference implementation."""
    prefix: str = ""
    """What stands before the backbone's names in a checkpoint with a head."""
    old_names: dict[str, str] = field(default_factory=dict)
    """Last parts of names that old checkpoints use → those of the table."""

    def to_canonical(self, name: str) -> Iterator[tuple[str, TensorSlice]]:
        """The parameters that a checkpoint's tensor may hold, by every rule about it."""
        stem, _, last = name.rpartition(".")
        modern = f"{stem}.{self.old_names[last]}" if last in self.old_names else name
        for rules, candidate in ((self.rules, modern.removeprefix(self.prefix)), (self.heads, modern)):
            for rule in rules:
                yield from (
                    (canonical, replace(piece, tensor=name)) for canonical, piece in rule.to_canonical(candidate)
                )

    def is_of_a_head(self, name: str) -> bool:
        """Whether a tensor belongs to a head, which the loaded model may lack."""
        return any(True for rule in self.heads for _ in rule.to_canonical(name))

    def to_checkpoint(self, canonical: str, *, prefix: str) -> TensorSlice:
        """Where a parameter is exported to, the backbone's behind `prefix`."""
        for rules, before in ((self.rules, prefix), (self.heads, "")):
            for rule in rules:
                piece = rule.to_checkpoint(canonical)
                if piece is not None:
                    return replace(piece, tensor=before + piece.tensor)
        raise AssertionError(f"no rule exports {canonical}")

    def is_ignored(self, name: str) -> bool:
        """Whether a tensor is known, and known not to be needed."""
        names = (name, name.removeprefix(self.prefix))
        return any(fnmatchcase(n, pattern) for pattern in self.ignored for n in names)


def _replace(pattern: str, replacement: str, name: str) -> str | None:
    found = _compiled(pattern).fullmatch(name)
    if found is None:
        return None
    parts = iter(found.groups())
    return "".join(next(parts) if letter == "*" else letter for letter in replacement)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("([^.]+)".join(map(re.escape, pattern.split("*"))))
