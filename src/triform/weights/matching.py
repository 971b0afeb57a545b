"""Matching: every parameter gets a slice of a checkpoint tensor, and every tensor is accounted for.

A missing, unknown, misshapen or contradictory tensor is a problem; all problems of a checkpoint go into one error.
"""

from collections.abc import Mapping
from typing import NamedTuple

from triform.errors import WeightError
from triform.weights.slices import TensorSlice
from triform.weights.table import WeightTable
from triform.weights.tensors import FORMATS, Tensors


class Assignment(NamedTuple):
    """The source of every parameter, and the unused tensors."""

    sources: Mapping[str, TensorSlice]
    """Canonical name → slice of the checkpoint."""
    unused: tuple[str, ...]
    """Tensors of heads that the model lacks, buffers, and copies of other tensors."""
    prefix: str
    """The prefix of the backbone's names in this checkpoint: the prefix of the table, or empty."""


def match_tensors(shapes: Mapping[str, tuple[int, ...]], table: WeightTable, tensors: Tensors) -> Assignment:
    """Find the tensor of every parameter.

    Arguments:
        shapes: canonical name → shape of every parameter.
        table: the names of the family.
        tensors: the checkpoint.

    Raises:
        WeightError: parameters without a tensor, unknown tensors, shapes or dtypes that differ, copies that are not
            equal. The message lists all of them.
    """
    candidates: dict[str, list[TensorSlice]] = {}
    unused: list[str] = []
    problems: list[str] = []
    for name in tensors:
        wanted = [(canonical, source) for canonical, source in table.to_canonical(name) if canonical in shapes]
        for canonical, source in wanted:
            candidates.setdefault(canonical, []).append(source)
        if wanted:
            continue
        if table.is_ignored(name) or table.belongs_to_head(name):
            unused.append(name)
        else:
            problems.append(f"unexpected  {name} {list(tensors[name].shape)}")
    prefix = table.prefix if any(name.startswith(table.prefix) for name in tensors) else ""
    sources: dict[str, TensorSlice] = {}
    for canonical, shape in shapes.items():
        found = candidates.get(canonical, [])
        if len(found) != 1:
            exported = table.to_checkpoint(canonical, prefix=prefix)
            if not found:
                expected = list(exported.whole_shape(shape))
                problems.append(f"missing     {exported.tensor} {expected} for {canonical}")
                continue
            found.sort(key=lambda source: source != exported)
        source, *copies = found
        sources[canonical] = source
        problems += _problems_of_source(tensors, source, shape)
        for copy in (copy.tensor for copy in copies):
            unused.append(copy)
            if not table.is_ignored(copy) and not tensors.equal(copy, source.tensor):
                problems.append(f"differs     {copy} from {source.tensor}")
    if problems:
        raise WeightError(
            f"The checkpoint does not fit the model; {len(set(problems))} problem(s):\n  "
            + "\n  ".join(sorted(set(problems)))
            + "\nThe model is the one that config.json describes: do the config and the weights belong together?"
        )
    return Assignment(sources=sources, unused=tuple(unused), prefix=prefix)


def _problems_of_source(tensors: Tensors, source: TensorSlice, shape: tuple[int, ...]) -> list[str]:
    info = tensors[source.tensor]
    problems = []
    if source.part_shape(info.shape) != shape:
        expected = list(source.whole_shape(shape))
        problems.append(f"misshapen   {source.tensor} {list(info.shape)}, expected {expected}")
    if info.format is None:
        problems.append(f"dtype       {source.tensor} {info.dtype}, expected one of {', '.join(FORMATS)}")
    if info.scales is not None and source != source.of_output_channels():
        problems.append(f"dtype       {source} {info.format}, expected floats, since integers have scales for rows")
    return problems
