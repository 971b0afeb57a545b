"""Tied embeddings: whether a head and a word embedding share a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from triform import spec
from triform.errors import UnsupportedModelError
from triform.weights import Tensors, WeightTable

if TYPE_CHECKING:
    from triform.weights.adapter import Adapter

LANGUAGE_HEAD = "language_head.weight"


def word_embedding(model: spec.Model) -> str:
    """Find the canonical name of the word embedding, shared with a tied head."""
    return "encoder.embedding.word.weight" if isinstance(model.form, spec.EncoderDecoder) else "embedding.word.weight"


def tie(model: spec.Model, table: WeightTable) -> WeightTable:
    """Return the table of a model: with a tied head, the tensor of the head is the word embedding too."""
    return replace(table, tied={LANGUAGE_HEAD: word_embedding(model)}) if has_tied_head(model) else table


def has_tied_head(model: spec.Model) -> bool:
    """Check whether the spec ties a language head to the word embedding."""
    return isinstance(model.head, spec.LanguageHead) and model.head.tied


def lay_over(model: spec.Model, table: WeightTable, tensors: Tensors, adapter: Adapter) -> Tensors:
    """Add an adapter's tensors to the checkpoint's tensors.

    Where the adapter changes one end of a tied head, the other end keeps the checkpoint's tensor under its own name.

    Raises:
        UnsupportedModelError: the adapter changes a word embedding that two stacks share.
    """
    word, changed = word_embedding(model), adapter.changed_parameters(table)
    if isinstance(model.form, spec.EncoderDecoder) and model.form.shares_embedding and word in changed:
        raise UnsupportedModelError(
            f"The adapter {adapter.checkpoint.source} changes a word embedding that encoder and decoder share, "
            "which Triform does not have."
        )
    together = adapter.replace_tensors(tensors, table)
    ends = (word, LANGUAGE_HEAD)
    if has_tied_head(model) and adapter.separates(table, *ends):
        name = _first_tensor(table, tensors, *ends)
        shared = adapter.base_tensor(table, word) or (None if name is None else tensors[name])
        for end in ends:
            if shared is not None and _first_tensor(table, together, end) is None:
                own = table.to_checkpoint(end, prefix=table.prefix).tensor
                together = together.replace_infos({**together, own: shared})
    return together


def _first_tensor(table: WeightTable, tensors: Tensors, *parameters: str) -> str | None:
    """Return the name of the first tensor of one of the parameters."""
    return next((name for name in tensors if any(own in parameters for own, _ in table.to_canonical(name))), None)


def untie(
    model: spec.Model, table: WeightTable, tensors: Tensors, config: Mapping[str, Any], adapter: Adapter | None
) -> spec.Model:
    """Untie the head if checkpoint, adapter or config have a separate head, against the family's spec.

    A checkpoint says so by a head that differs from its word embedding, as in transformers 5 and in T5 v1.1; an adapter
    by a change of one of them. Without weights, `tie_word_embeddings` of config.json decides.
    """
    if not has_tied_head(model):
        return model
    is_own = _has_own_head(model, table, tensors, adapter) if tensors else config.get("tie_word_embeddings") is False
    assert isinstance(model.head, spec.LanguageHead)
    return replace(model, head=replace(model.head, tied=False)) if is_own else model


def _has_own_head(model: spec.Model, table: WeightTable, tensors: Tensors, adapter: Adapter | None) -> bool:
    names = {canonical: name for name in tensors for canonical, _ in table.to_canonical(name)}
    own, shared = names.get(LANGUAGE_HEAD), names.get(word_embedding(model))
    if own is None or shared is None:
        return False
    is_changed = adapter is not None and adapter.separates(table, word_embedding(model), LANGUAGE_HEAD)
    return is_changed or not tensors.equal(own, shared)
