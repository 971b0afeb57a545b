"""All that is known of a model before one number is read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from triform import families, spec
from triform.engines import Engine, StoredTensor, create_engine
from triform.errors import UnsupportedModelError
from triform.families.kit.adapted import adapt_config
from triform.hub import ADAPTER, Checkpoint, find_checkpoint
from triform.networks import Declaration, declare
from triform.weights import (
    Adapter,
    Assignment,
    Tensors,
    Update,
    WeightTable,
    combine_quantized,
    match_tensors,
    open_tensors,
    read_parameter,
    read_quantized_format,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Blueprint:
    """What a checkpoint and an adapter are together."""

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    """The contents of config.json."""
    spec: spec.Model
    table: WeightTable
    tensors: Tensors
    declared: Mapping[str, Declaration]
    """Canonical name → shape and role of every parameter."""
    assignment: Assignment
    updates: Mapping[str, Update]
    """Canonical name → what an adapter changes of that parameter."""

    def read_parameter(self, name: str) -> StoredTensor:
        """A parameter as the checkpoint has it, and as an adapter changes it."""
        return read_parameter(self.tensors, self.assignment.sources[name], self.updates.get(name))

    @property
    def num_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(math.prod(parameter.shape) for parameter in self.declared.values())


def read_blueprint(
    model: str | Path,
    *,
    engine: Engine | None = None,
    revision: str | None = None,
    adapter: str | Path | None = None,
    with_head: bool = True,
) -> Blueprint:
    """Read the config and the headers of the files of a model, and of an adapter; match every tensor with a parameter.

    Raises:
        ModelError: it cannot be found, is not supported, or config and weights do not fit.
    """
    checkpoint = find_checkpoint(model, revision=revision)
    config = checkpoint.read_object("config.json")
    where = str(checkpoint.folder / "config.json")
    change = None if adapter is None else Adapter.open(find_checkpoint(adapter, files=ADAPTER))
    if change is not None:
        change.warn_of_other_base(checkpoint)
        config = dict(adapt_config(config, where, change)) if with_head else config
    resolved = families.read_spec(config, where, with_head=with_head)
    family = families.find_family(config, where)
    tensors, format = open_tensors(checkpoint), read_quantized_format(config, where)
    if format is not None:
        tensors = combine_quantized(tensors, format)
    if change is not None:
        tensors = _laid_over(resolved, family.weights(resolved), tensors, change)
    resolved = _untie(resolved, family.weights(resolved), tensors, change)
    table = family.weights(resolved)
    declared = declare(resolved, engine or create_engine("reference"))
    shapes = {name: parameter.shape for name, parameter in declared.items()}
    assignment = match_tensors(shapes, table, tensors)
    return Blueprint(
        checkpoint=checkpoint,
        config=config,
        spec=resolved,
        table=table,
        tensors=tensors,
        declared=declared,
        assignment=assignment,
        updates={} if change is None else change.make_updates(table, shapes),
    )


def _word_table(model: spec.Model) -> str:
    """The canonical name of the table that a tied head projects with."""
    return "encoder.embedding.word.weight" if isinstance(model.form, spec.EncoderDecoder) else "embedding.word.weight"


def _laid_over(model: spec.Model, table: WeightTable, tensors: Tensors, adapter: Adapter) -> Tensors:
    """The tensors of a model and an adapter; a tied head of which one end is changed keeps the other as it was.

    Raises:
        UnsupportedModelError: the adapter changes a word embedding that two stacks share.
    """
    word, changed = _word_table(model), adapter.changed_parameters(table)
    if isinstance(model.form, spec.EncoderDecoder) and model.form.shares_embedding and word in changed:
        raise UnsupportedModelError(
            f"The adapter {adapter.checkpoint.source} changes a word embedding that encoder and decoder share, "
            "which Triform does not have."
        )
    together = adapter.replace_tensors(tensors, table)
    is_tied = isinstance(model.head, spec.LanguageHead) and model.head.tied
    head = table.to_checkpoint("language_head.weight", prefix="").tensor if is_tied else ""
    if is_tied and head not in together and changed & {word, "language_head.weight"}:
        shared = next(name for name in tensors if any(canonical == word for canonical, _ in table.to_canonical(name)))
        together = together.replace_infos({**together, head: tensors[shared]})
    return together


def _untie(model: spec.Model, table: WeightTable, tensors: Tensors, adapter: Adapter | None) -> spec.Model:
    """A head is its own where the checkpoint brings one that differs from the word embedding, whatever the config says.

    So does transformers 5, and it is how T5 v1.1 says it. An adapter that changes one of them makes them differ.
    """
    if not isinstance(model.head, spec.LanguageHead) or not model.head.tied:
        return model
    names = {canonical: name for name in tensors for canonical, _ in table.to_canonical(name)}
    word = _word_table(model)
    own, shared = names.get("language_head.weight"), names.get(word)
    if own is None or shared is None:
        return model
    is_changed = adapter is not None and bool(adapter.changed_parameters(table) & {word, "language_head.weight"})
    if tensors.equal(own, shared) and not is_changed:
        return model
    return replace(model, head=replace(model.head, tied=False))
