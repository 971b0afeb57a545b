"""Families of other packages, by the entry point `triform.families`.

    [project.entry-points."triform.families"]
    my_model = "my_package.my_model:FAMILY"

An entry point's name is the `model_type` of its family, so that only the package that is needed is imported.
"""

from importlib.metadata import EntryPoint, entry_points

from triform.errors import UnsupportedModelError
from triform.families.kit.family import Family

GROUP = "triform.families"


def declared() -> dict[str, list[EntryPoint]]:
    """Model type → the entry points that offer it. Reads what is installed, and imports none of it."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=_describe):
        found.setdefault(point.name, []).append(point)
    return found


def load(points: list[EntryPoint]) -> Family:
    """The family behind the one entry point of a model type.

    Raises:
        UnsupportedModelError: there are several, it cannot be imported, or it is not what it says.
    """
    if len(points) > 1:
        raise UnsupportedModelError(
            f"model_type {points[0].name!r} is offered by several packages: {'; '.join(map(_describe, points))}. "
            "Uninstall all but one."
        )
    [point] = points
    try:
        family = point.load()
    except Exception as error:  # whatever another package raises while it is imported
        raise UnsupportedModelError(
            f"The family {_describe(point)} cannot be loaded: {type(error).__name__}: {error}. Repair that package."
        ) from error
    if not isinstance(family, Family):
        raise UnsupportedModelError(
            f"The family {_describe(point)} is no triform.families.Family, but {type(family).__name__}. "
            "Name the constant that holds the Family in the entry point."
        )
    if family.model_type != point.name:
        raise UnsupportedModelError(
            f"The family {_describe(point)} is of model_type {family.model_type!r}. "
            "Give the entry point the name of the model_type."
        )
    return family


def refuse_rivals(points: dict[str, list[EntryPoint]], built_in: set[str]) -> None:
    """A package does not replace a family of Triform's own: which of the two reads a model must not be chance.

    Raises:
        UnsupportedModelError: one tries to.
    """
    rivals = [point for name in sorted(built_in & points.keys()) for point in points[name]]
    if rivals:
        raise UnsupportedModelError(
            f"Triform has a family of its own for what these packages claim: {'; '.join(map(_describe, rivals))}. "
            "Uninstall them, or give theirs another model_type."
        )


def _describe(point: EntryPoint) -> str:
    package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f"{point.name} = {point.value!r}{package}"
