"""What an adapter asks of the config of the model it is put on: the head of its task, and as many labels as it has."""

from collections.abc import Mapping
from typing import Any

from triform import spec
from triform.errors import UnsupportedModelError
from triform.families import find_family, read_spec
from triform.families.kit.config import Config
from triform.weights.adapter import Adapter

HEADS: dict[str, type[spec.Head]] = {
    "SEQ_CLS": spec.SequenceHead,
    "TOKEN_CLS": spec.TokenHead,
    "QUESTION_ANS": spec.SpanHead,
    "CAUSAL_LM": spec.LanguageHead,
    "SEQ_2_SEQ_LM": spec.LanguageHead,
}
"""By the `task_type` of adapter_config.json; without one, or for any other, the model keeps its head."""

LABELS = ("id2label", "label2id", "problem_type")


def adapted(config: Mapping[str, Any], where: str, adapter: Adapter) -> Mapping[str, Any]:
    """The config of a model with the head that an adapter was trained with.

    An adapter's own config says nothing of labels. They are those of a config.json beside it, or else the model's, and
    where the head that the adapter brings has another number of them, LABEL_0, LABEL_1 …, as in transformers.

    Raises:
        UnsupportedModelError: the family has no such head.
    """
    head = HEADS.get(str(adapter.config.get("task_type")))
    if head is None:
        return config
    if adapter.checkpoint.has("config.json"):
        beside = adapter.checkpoint.read_object("config.json")
        config = {**config, **{key: beside[key] for key in LABELS if key in beside}}
    config = {**config, "architectures": [architecture_with(config, where, head)]}
    resolved = read_spec(config, where)
    if not isinstance(resolved.head, spec.SequenceHead | spec.TokenHead):
        return config
    num_labels = adapter.count_labels(find_family(config, where).weights(resolved))
    if num_labels is None or num_labels == len(resolved.head.labels):
        return config
    labels = {str(number): f"LABEL_{number}" for number in range(num_labels)}
    return {**config, "id2label": labels, "label2id": {label: int(number) for number, label in labels.items()}}


def architecture_with(config: Mapping[str, Any], where: str, head: type[spec.Head]) -> str:
    """The model's own architecture where it has such a head, or else the family's first that has."""
    family = find_family(config, where)
    named = [name for name in Config(config, where).strings("architectures", ()) if name in family.architectures]
    for name in (*named[:1], *family.architectures):
        if isinstance(family.architectures[name](Config(config, where)), head):
            return name
    raise UnsupportedModelError(
        f"{where}: the adapter needs a {head.__name__}, which {family.model_type} does not have."
    )
