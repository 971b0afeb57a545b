"""Which tensor of a checkpoint is which parameter: every one of both accounted for, all problems in one error."""

from collections.abc import Mapping
from dataclasses import dataclass

from triform.errors import WeightError
from triform.weights.table import Table, TensorSlice
from triform.weights.tensors import FORMATS, Tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """Where every tensor of a checkpoint went, and where every parameter came from."""

    sources: Mapping[str, TensorSlice]
    """Canonical name → where in the checkpoint."""
    unused: tuple[str, ...]
    """Tensors of heads that the model does not have, buffers, and copies of other tensors."""
    prefix: str
    """What stands before the backbone's names in this checkpoint: the table's prefix, or nothing."""


def match_tensors(shapes: Mapping[str, tuple[int, ...]], table: Table, tensors: Tensors) -> Assignment:
    """Find the tensor of every parameter.

    Arguments:
        shapes: canonical name → shape of every parameter.
        table: the names of the family.
        tensors: the checkpoint.

    Raises:
        WeightError: parameters without a tensor, tensors that nothing is known of, shapes or dtypes that differ,
            copies that are not equal. Lists them all.
    """
    candidates: dict[str, list[TensorSlice]] = {}
    unused: list[str] = []
    problems: list[str] = []
    for name in tensors:
        wanted = [(canonical, piece) for canonical, piece in table.to_canonical(name) if canonical in shapes]
        for canonical, piece in wanted:
            candidates.setdefault(canonical, []).append(piece)
        if wanted:
            continue
        if table.is_ignored(name) or table.is_of_a_head(name):
            unused.append(name)
        else:
            problems.append(f"unexpected  {name} {list(tensors[name].shape)}")
    prefix = table.prefix if any(name.startswith(table.prefix) for name in tensors) else ""
    sources: dict[str, TensorSlice] = {}
    for canonical, shape in shapes.items():
        exported = table.to_checkpoint(canonical, prefix=prefix)
        pieces = sorted(candidates.get(canonical, []), key=lambda piece: piece != exported)
        if not pieces:
            problems.append(f"missing     {exported.tensor} {list(shape)} for {canonical}")
            continue
        sources[canonical], copies = pieces[0], [piece.tensor for piece in pieces[1:]]
        problems += _problems_of(tensors, pieces[0], shape)
        problems += [
            f"differs     {copy} from {pieces[0].tensor}"
            for copy in copies
            if not table.is_ignored(copy) and not tensors.equal(copy, pieces[0].tensor)
        ]
        unused += copies
    if problems:
        raise WeightError(
            f"The checkpoint does not fit the model; {len(set(problems))} problem(s):\n  "
            + "\n  ".join(sorted(set(problems)))
            + "\nThe model is the one that config.json describes: do the config and the weights belong together?"
        )
    return Assignment(sources=sources, unused=tuple(unused), prefix=prefix)


def _problems_of(tensors: Tensors, piece: TensorSlice, shape: tuple[int, ...]) -> list[str]:
    info = tensors[piece.tensor]
    problems = []
    if piece.shape(info.shape) != shape:
        whole = (1, *shape) if piece.row else (shape[0] * piece.parts, *shape[1:])
        expected = whole[::-1] if piece.transposed else whole
        problems.append(f"misshapen   {piece.tensor} {list(info.shape)}, expected {list(expected)}")
    if info.format is None:
        problems.append(f"dtype       {piece.tensor} {info.dtype}, expected one of {', '.join(FORMATS)}")
    if piece.transposed and info.scales is not None:
        problems.append(f"dtype       {piece.tensor} {info.format}, expected floats: it is stored (in, out)")
    return problems
