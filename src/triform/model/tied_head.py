"""Tied embeddings: whether a head and a word embedding share a tensor."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from triform import spec
from triform.errors import UnsupportedModelError
from triform.weights import Adapter, Tensors, WeightTable

LANGUAGE_HEAD = "language_head.weight"


def word_embedding(model: spec.Model) -> str:
    """Find the canonical name of the word embedding, shared with a tied head."""
    return "encoder.embedding.word.weight" if isinstance(model.form, spec.EncoderDecoder) else "embedding.word.weight"


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
    head = table.to_checkpoint(LANGUAGE_HEAD, prefix="").tensor if has_tied_head(model) else ""
    if head and head not in together and changed & {word, LANGUAGE_HEAD}:
        shared = next(name for name in tensors if any(canonical == word for canonical, _ in table.to_canonical(name)))
        together = together.replace_infos({**together, head: tensors[shared]})
    return together


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
    is_changed = adapter is not None and bool(
        adapter.changed_parameters(table) & {word_embedding(model), LANGUAGE_HEAD}
    )
    return is_changed or not tensors.equal(own, shared)
