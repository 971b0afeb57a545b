"""Which tensor of a checkpoint is which parameter: every one of both accounted for, all problems in one error."""

from collections.abc import Mapping
from dataclasses import dataclass

from triform.errors import WeightError
from triform.weights.table import Table
from triform.weights.tensors import FORMATS, Tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """Where every tensor of a checkpoint went, and where every parameter came from."""

    sources: Mapping[str, str]
    """Canonical name → name in the checkpoint."""
    unused: tuple[str, ...]
    """Tensors of heads that the model does not have, buffers, and copies of other tensors."""
    prefix: str
    """What stands before the backbone's names in this checkpoint: the table's prefix, or nothing."""


def match(shapes: Mapping[str, tuple[int, ...]], table: Table, tensors: Tensors) -> Assignment:
    """Find the tensor of every parameter.

    Arguments:
        shapes: canonical name → shape of every parameter.
        table: the names of the family.
        tensors: the checkpoint.

    Raises:
        WeightError: parameters without a tensor, tensors that nothing is known of, shapes or dtypes that differ,
            copies that are not equal. Lists them all.
    """
    candidates: dict[str, list[str]] = {}
    unused: list[str] = []
    problems: list[str] = []
    for name in tensors:
        names = list(table.to_canonical(name))
        wanted = next((canonical for canonical in names if canonical in shapes), None)
        if wanted is not None:
            candidates.setdefault(wanted, []).append(name)
        elif table.is_ignored(name) or table.is_of_a_head(name):
            unused.append(name)
        else:
            problems.append(f"unexpected  {name} {list(tensors[name].shape)}")
    prefix = table.prefix if any(name.startswith(table.prefix) for name in tensors) else ""
    sources: dict[str, str] = {}
    for canonical, shape in shapes.items():
        exported = table.to_checkpoint(canonical, prefix=prefix)
        names = sorted(candidates.get(canonical, []), key=lambda name: name != exported)
        if not names:
            problems.append(f"missing     {exported} {list(shape)} for {canonical}")
            continue
        sources[canonical], *copies = names
        problems += _problems_of(tensors, names[0], shape)
        problems += [
            f"differs     {copy} from {names[0]}"
            for copy in copies
            if not table.is_ignored(copy) and not tensors.equal(copy, names[0])
        ]
        unused += copies
    if problems:
        raise WeightError(
            f"The checkpoint does not fit the model; {len(problems)} problem(s):\n  "
            + "\n  ".join(sorted(problems))
            + "\nThe model is the one that config.json describes: do the config and the weights belong together?"
        )
    return Assignment(sources=sources, unused=tuple(unused), prefix=prefix)


def _problems_of(tensors: Tensors, name: str, shape: tuple[int, ...]) -> list[str]:
    info = tensors[name]
    problems = []
    if info.shape != shape:
        problems.append(f"misshapen   {name} {list(info.shape)}, expected {list(shape)}")
    if info.dtype not in FORMATS:
        problems.append(f"dtype       {name} {info.dtype}, expected one of {', '.join(FORMATS)}")
    return problems
