"""The weight table of a family: tensor names in checkpoints ↔ canonical names of parameters, read both ways."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache

from triform.weights.slices import SliceStep, Split, Stack, TensorSlice


@dataclass(init=False)
class Rename:
    """A rule of a table: tensor name in checkpoints ↔ canonical names of the parameters in the tensor.

    `*` stands for one part between dots or the rest of one, in the same order in all names. `#` in the canonical names
    stands for the number of an array in a `Stack`.

        Rename("h.*.ln_1.*",           "blocks.*.attention.pre_norm.*")
        Rename("h.*.attn.c_attn.*",    "blocks.*.attention.query.*", "blocks.*.attention.key.*",
               "blocks.*.attention.value.*", layout=(Transpose(), Split((1, 1, 1))))
        Rename("layers.*.experts.gate_up_proj", "blocks.*.experts.#.gate.weight", "blocks.*.experts.#.up.weight",
               layout=(Stack(8), Split((1, 1))))
    """

    checkpoint: str
    canonical: tuple[str, ...]
    """One name for each share of the layout's `Split`; without a `Split` one name."""
    layout: tuple[SliceStep, ...]
    """The steps from the tensor to the parameters. A tensor whose name ends in "bias" takes only the steps that divide
    output channels, so weight and bias can share a rule."""

    def __init__(self, checkpoint: str, *canonical: str, layout: tuple[SliceStep, ...] = ()) -> None:
        self.checkpoint = checkpoint
        self.canonical = canonical
        self.layout = layout
        numbers = {name.count("#") for name in canonical}
        stacks = [step.count for step in layout if isinstance(step, Stack)]
        shares = [step.num_parts for step in layout if isinstance(step, Split)] or [1]
        is_reversible = (
            len({name.count("*") for name in (checkpoint, *canonical)}) == 1
            and ((numbers == {0} and {*stacks} <= {1}) or (numbers == {1} and len(stacks) == 1))
            and shares == [len(canonical)]
        )
        assert is_reversible, f"{checkpoint} ↔ {canonical} with {layout} cannot be reversed"

    def to_canonical(self, name: str) -> Iterator[tuple[str, TensorSlice]]:
        """Yield the canonical name and the slice of each parameter in the tensor `name`; none for a foreign name."""
        found = _match(self.checkpoint, name)
        if found is None:
            return
        stars, _ = found
        for number in self._numbers():
            for part, canonical in enumerate(self.canonical):
                yield _fill(canonical, stars, number), self._slice(name, part, number)

    def to_checkpoint(self, name: str) -> TensorSlice | None:
        """Return the slice for the parameter with the canonical name `name`; None for a foreign name."""
        for part, canonical in enumerate(self.canonical):
            found = _match(canonical, name)
            if found is not None and found[1] in self._numbers():
                return self._slice(_fill(self.checkpoint, *found), part, found[1])
        return None

    def _numbers(self) -> range:
        """The numbers that `#` can stand for; only 0 for names without `#`."""
        return range(max((step.count for step in self.layout if isinstance(step, Stack)), default=1))

    def _slice(self, tensor: str, part: int, number: int) -> TensorSlice:
        steps = [step for step in self.layout if step.on_output_channels or not tensor.endswith("bias")]
        parts = {Split: part, Stack: number}
        return TensorSlice(tensor, tuple(step.at(parts.get(type(step), 0)) for step in steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightTable:
    """The tensors of all checkpoints of a family. Export follows the first rule for a canonical name."""

    rules: tuple[Rename, ...]
    """The backbone's tensors."""
    heads: tuple[Rename, ...] = ()
    """The heads' tensors, which the loaded model may lack."""
    ignored: tuple[str, ...] = ()
    """Patterns of known tensors that no parameter needs: buffers, and parts that the loaded form lacks. Here `*` also
    stands for dots."""
    fixed: tuple[str, ...] = ()
    """Canonical names of parameters that are never trained: buffers of the reference implementation."""
    prefix: str = ""
    """The prefix of the backbone's names in a checkpoint with a head."""
    old_names: dict[str, str] = field(default_factory=dict)
    """Last part of a name in old checkpoints → last part of the name in the table."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Canonical name of a tensor → canonical name of the parameter that shares the tensor. A checkpoint may hold a
    shared tensor under any of its names."""

    def to_canonical(self, name: str) -> Iterator[tuple[str, TensorSlice]]:
        """Yield the canonical name and the slice of each parameter in the tensor `name`, from every rule."""
        stem, _, last = name.rpartition(".")
        modern = f"{stem}.{self.old_names[last]}" if last in self.old_names else name
        for rules, candidate in ((self.rules, modern.removeprefix(self.prefix)), (self.heads, modern)):
            for rule in rules:
                for canonical, tensor_slice in rule.to_canonical(candidate):
                    yield self.tied.get(canonical, canonical), TensorSlice(name, tensor_slice.steps)

    def to_checkpoint(self, canonical: str, *, prefix: str) -> TensorSlice:
        """Return the slice for the export of a parameter, with `prefix` before a backbone's name."""
        for rules, before in ((self.rules, prefix), (self.heads, "")):
            for rule in rules:
                tensor_slice = rule.to_checkpoint(canonical)
                if tensor_slice is not None:
                    return TensorSlice(before + tensor_slice.tensor, tensor_slice.steps)
        raise AssertionError(f"no rule exports {canonical}")

    def belongs_to_head(self, name: str) -> bool:
        """Return whether the tensor `name` belongs to a head."""
        return any(True for rule in self.heads for _ in rule.to_canonical(name))

    def is_ignored(self, name: str) -> bool:
        """Return whether the tensor `name` is known and not needed."""
        names = (name, name.removeprefix(self.prefix))
        return any(fnmatchcase(n, pattern) for pattern in self.ignored for n in names)


def _match(pattern: str, name: str) -> tuple[list[str], int] | None:
    """Return the parts of `name` at the stars of `pattern`, and the number at `#`, 0 without one; None if not equal."""
    expected, parts = _parts(pattern), _parts(name)
    if len(expected) != len(parts):
        return None
    stars, number = [], 0
    for wanted, part in zip(expected, parts, strict=True):
        if "*" in wanted:
            before, after = wanted.split("*")
            if not (len(part) > len(before + after) and part.startswith(before) and part.endswith(after)):
                return None
            stars.append(part[len(before) : len(part) - len(after)])
        elif wanted == "#" and part.isdecimal() and part == str(int(part)):
            number = int(part)
        elif wanted != part:
            return None
    return stars, number


@lru_cache(maxsize=4096)
def _parts(name: str) -> list[str]:
    return name.split(".")


def _fill(pattern: str, stars: list[str], number: int) -> str:
    rest = iter(stars)
    filled = (part.replace("*", next(rest)) if "*" in part else part for part in _parts(pattern))
    return ".".join(str(number) if part == "#" else part for part in filled)
