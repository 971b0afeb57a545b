"""Plugins: families from installed packages, declared by entry points in the group `triform.families`.

    [project.entry-points."triform.families"]
    my_model = "my_package.my_model:FAMILY"

The name of an entry point is the `model_type` of its family, so only the package of the wanted family is imported.
"""

from importlib.metadata import EntryPoint, entry_points

from triform.errors import UnsupportedModelError
from triform.families.kit.family import Family

GROUP = "triform.families"


def find_entry_points() -> dict[str, list[EntryPoint]]:
    """Return model type → entry points of this name in all installed packages. Imports no package."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=_describe):
        found.setdefault(point.name, []).append(point)
    return found


def load_family(points: list[EntryPoint]) -> Family:
    """Import the family of the only entry point of a model type.

    Raises:
        UnsupportedModelError: there are several entry points, the import fails, or the object is not a family of this
            model type.
    """
    if len(points) > 1:
        raise UnsupportedModelError(
            f"model_type {points[0].name!r} is offered by several packages: {'; '.join(map(_describe, points))}. "
            "Uninstall all but one."
        )
    [point] = points
    try:
        family = point.load()
    except Exception as error:  # an import can raise anything
        raise UnsupportedModelError(
            f"The family {_describe(point)} cannot be loaded: {type(error).__name__}: {error}. Repair that package."
        ) from error
    if not isinstance(family, Family):
        raise UnsupportedModelError(
            f"The family {_describe(point)} is not a triform.families.Family, but {type(family).__name__}. "
            "Name the constant that holds the Family in the entry point."
        )
    if family.model_type != point.name:
        raise UnsupportedModelError(
            f"The family {_describe(point)} is of model_type {family.model_type!r}. "
            "Give the entry point the name of the model_type."
        )
    return family


def refuse_rivals(points: dict[str, list[EntryPoint]], built_in: set[str]) -> None:
    """Refuse packages with a built-in family: chance must not decide between two families for a model.

    Raises:
        UnsupportedModelError: an entry point has the model type of a built-in family.
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
