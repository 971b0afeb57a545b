"""config.json → spec, and the names of the weights: one small file for each family."""

from collections.abc import Mapping
from typing import Any

from triform import spec
from triform.errors import UnsupportedModelError
from triform.families import (
    bart,
    bert,
    distilbert,
    gpt2,
    llama,
    marian,
    mistral,
    mpnet,
    qwen2,
    qwen3,
    roberta,
    t5,
    xlm_roberta,
)
from triform.families.kit.config import BOOKKEEPING, GENERATION, TRAINING, Config
from triform.families.kit.family import Family

FAMILIES: tuple[Family, ...] = (
    bert.FAMILY,
    roberta.FAMILY,
    xlm_roberta.FAMILY,
    distilbert.FAMILY,
    mpnet.FAMILY,
    t5.FAMILY,
    bart.FAMILY,
    marian.FAMILY,
    gpt2.FAMILY,
    llama.FAMILY,
    mistral.FAMILY,
    qwen2.FAMILY,
    qwen3.FAMILY,
)


def find_family(config: Mapping[str, Any], where: str) -> Family:
    """The family of a config.json, by its `model_type`: one of Triform's own, or of a package that brings it.

    Raises:
        UnsupportedModelError: there is none, or the package's cannot be used.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    # What is installed is looked through only for a model that Triform does not have: it takes time.
    from triform.families.kit import plugins

    built_in = {family.model_type for family in FAMILIES}
    others = plugins.declared()
    plugins.refuse_rivals(others, built_in)
    if isinstance(model_type, str) and model_type in others:
        return plugins.load(others[model_type])
    more = f", and of other packages {', '.join(sorted(others))}" if others else ""
    raise UnsupportedModelError(
        f"{where}: model_type {model_type!r} is not supported. "
        f"This version of Triform reads {', '.join(sorted(built_in))}{more}."
    )


def read_spec(config: Mapping[str, Any], where: str, *, with_head: bool = True) -> spec.Model:
    """The spec of a config.json.

    Arguments:
        config: its contents.
        where: its path, for messages.
        with_head: whether to read the head that `architectures` names, or the backbone alone.

    Raises:
        UnsupportedModelError: an unknown model type, architecture, key or value, or one that is missing.
    """
    family = find_family(config, where)
    reader = Config(config, where)
    architecture = _architecture(reader, family, with_head=with_head)
    form = family.form(reader, architecture)
    head = family.architectures[architecture](reader) if with_head else None
    # Labels are for heads; a model without one, or with another, just does not need them.
    reader.ignore(*BOOKKEEPING, *TRAINING, *GENERATION, "id2label", "label2id", "num_labels", "problem_type")
    reader.close()
    return spec.Model(form=form, head=head)


def _architecture(config: Config, family: Family, *, with_head: bool) -> str:
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


__all__ = ["FAMILIES", "Config", "Family", "find_family", "read_spec"]
