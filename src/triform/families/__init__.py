"""config.json → spec and weight table: a small module for each family, found by `model_type`.

A module is imported for a model of its family. `kit/` is the machinery that the modules are written with.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from triform import spec
from triform.errors import UnsupportedModelError
from triform.families.kit.config import BOOKKEEPING, GENERATION, TRAINING, Config
from triform.families.kit.family import Family
from triform.settings import KeyUse


def find_family(config: Mapping[str, Any], where: str) -> Family:
    """Return the family of a config.json by `model_type`: a built-in family, or a family of another package.

    Arguments:
        config: the contents of config.json.
        where: the path of config.json, for messages.

    Raises:
        UnsupportedModelError: the family does not exist, or another package's family cannot be used.
    """
    model_type = config.get("model_type")
    family = _find_built_in(model_type)
    if family is not None:
        return family
    # Listing the installed packages takes time, and only a model that Triform lacks needs the list.
    from triform.families.kit import plugins

    others = plugins.find_entry_points()
    plugins.refuse_rivals(others, {name for name in others if _find_built_in(name) is not None})
    if isinstance(model_type, str) and model_type in others:
        return plugins.load_family(others[model_type])
    known = sorted(family.model_type for family in built_in_families())
    more = f", and of other packages {', '.join(sorted(others))}" if others else ""
    raise UnsupportedModelError(
        f"{where}: model_type {model_type!r} is not supported. This version of Triform reads {', '.join(known)}{more}."
    )


def built_in_families() -> list[Family]:
    """Return all built-in families, in the order of their modules. Imports every module."""
    return [_import_family(name) for name in sorted(_module_names())]


def read_spec(
    config: Mapping[str, Any], where: str, *, with_head: bool = True, report: dict[str, KeyUse] | None = None
) -> spec.Model:
    """Return the spec of a config.json.

    Arguments:
        config: the contents of config.json.
        where: the path of config.json, for messages.
        with_head: whether to read the head that `architectures` names, or the backbone alone.
        report: receives the use of each key.

    Raises:
        UnsupportedModelError: an unknown model type, architecture, key or value, or a missing key.
    """
    family = find_family(config, where)
    reader = Config(config, where, report)
    architecture = _find_architecture(reader, family, with_head=with_head)
    form = family.form(reader, architecture)
    head = family.architectures[architecture](reader) if with_head else None
    # Labels belong to heads; a backbone, or a head without labels, does not read them.
    reader.ignore(*BOOKKEEPING, *TRAINING, *GENERATION, "id2label", "label2id", "num_labels", "problem_type")
    reader.expect("tie_encoder_decoder", False)
    reader.close()
    return spec.Model(form=form, head=head)


def _find_architecture(config: Config, family: Family, *, with_head: bool) -> str:
    named = config.strings("architectures", default=())
    architecture = named[0] if named else next(iter(family.architectures))
    if architecture in family.architectures:
        return architecture
    if with_head:
        raise UnsupportedModelError(
            f"{config.where}: architecture {architecture!r} is not supported. "
            f"Of {family.model_type}, Triform has {', '.join(family.architectures)}."
        )
    return next(iter(family.architectures))


def _find_built_in(model_type: object) -> Family | None:
    """Return the built-in family of a model type, from the module of the same name with `_` in place of `-`."""
    name = str(model_type).replace("-", "_")
    family = _import_family(name) if name in _module_names() else None
    return family if family is not None and family.model_type == model_type else None


def _import_family(module: str) -> Family:
    family: Family = import_module(f"{__name__}.{module}").FAMILY
    return family


@cache
def _module_names() -> frozenset[str]:
    return frozenset(path.stem for path in Path(__file__).parent.glob("*.py")) - {Path(__file__).stem}


__all__ = ["Config", "Family", "built_in_families", "find_family", "read_spec"]
