"""The config of a model under an adapter: the head of the adapter's task, with the adapter's number of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from triform import spec
from triform.errors import UnsupportedModelError
from triform.families import find_family, read_spec
from triform.families.kit.config import Config

if TYPE_CHECKING:
    from triform.weights.adapter import Adapter

HEADS: dict[str, type[spec.Head]] = {
    "SEQ_CLS": spec.SequenceHead,
    "TOKEN_CLS": spec.TokenHead,
    "QUESTION_ANS": spec.SpanHead,
    "CAUSAL_LM": spec.LanguageHead,
    "SEQ_2_SEQ_LM": spec.LanguageHead,
}
"""`task_type` of adapter_config.json → head. With any other task, or without one, the model keeps its head."""

LABELS = ("id2label", "label2id", "problem_type")
TABLES = ("embedding.word.weight", "encoder.embedding.word.weight", "language_head.weight")
"""Canonical names of the parameters with a row for each token."""


def adapt_config(config: Mapping[str, Any], where: str, adapter: Adapter, *, with_head: bool) -> Mapping[str, Any]:
    """Return the config of a model with the vocabulary of an adapter and the head of its task.

    An adapter that was trained on a larger vocabulary brings the tables. An adapter's own config has no labels. Labels
    come from a config.json in the adapter's folder, or else from the model. If the adapter's head has another number of
    labels, they are LABEL_0, LABEL_1 …, as in transformers.

    Arguments:
        config: the contents of the model's config.json.
        where: its path, for messages.
        adapter: the adapter.
        with_head: whether the model gets the head.

    Raises:
        UnsupportedModelError: the family has no such head.
    """
    head = HEADS.get(str(adapter.config.task_type)) if with_head else None
    if head is not None:
        if adapter.checkpoint.has("config.json"):
            given = adapter.checkpoint.read_object("config.json")
            other = {"label2id": None} if "id2label" in given else {}
            config = {**config, **other, **{key: given[key] for key in LABELS if key in given}}
        config = {**config, "architectures": [find_architecture(config, where, head)]}
    resolved = read_spec(config, where, with_head=with_head)
    table = find_family(config, where).weights(resolved)
    if (num_rows := adapter.count_rows(table, *TABLES)) is not None:
        config = {**config, "vocab_size": num_rows}
    if head is None or not isinstance(resolved.head, spec.SequenceHead | spec.TokenHead):
        return config
    num_labels = adapter.count_rows(table, "classification_head.weight")
    if num_labels is None or num_labels == len(resolved.head.labels):
        return config
    labels = {str(number): f"LABEL_{number}" for number in range(num_labels)}
    return {**config, "id2label": labels, "label2id": {label: int(number) for number, label in labels.items()}}


def find_architecture(config: Mapping[str, Any], where: str, head: type[spec.Head]) -> str:
    """Return the model's architecture if the head matches, else the first matching architecture of the family.

    Raises:
        UnsupportedModelError: the family has no such head.
    """
    family = find_family(config, where)
    named = [name for name in Config(config, where).strings("architectures", ()) if name in family.architectures]
    for name in (*named[:1], *family.architectures):
        if isinstance(family.architectures[name](Config(config, where)), head):
            return name
    raise UnsupportedModelError(f"{where}: the task needs a {head.__name__}, which {family.model_type} does not have.")
