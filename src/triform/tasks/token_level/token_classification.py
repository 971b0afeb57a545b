"""A label for each token: names of people and places, parts of speech."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from triform import spec
from triform.inputs import Batch, EncodedText
from triform.models import Output
from triform.tasks.probabilities import Numbers, softmax
from triform.tasks.task import Options, Task, option


class Aggregation(StrEnum):
    """How tokens are put together."""

    NONE = "none"
    """Every token by itself."""
    SIMPLE = "simple"
    """Neighbours of one entity, by their B- and I- tags."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenClassificationOptions(Options):
    """Options of token-classification."""

    aggregation_strategy: Aggregation = option(Aggregation.NONE, "Whether to put the tokens of an entity together.")
    ignore_labels: Sequence[str] = option(("O",), "Labels that are not reported.")


class TokenClassification(Task[Output, list[dict[str, Any]]]):
    """Answers `[{entity, score, index, word, start, end}]`; with aggregation `{entity_group, score, word, start, end}`.

    `start` and `end` count characters of the text.
    """

    name = "token-classification"
    aliases = ("ner",)
    summary = "Labels for the words of each text, such as names of people and places."
    example = "Ada Lovelace lived in London."
    options_type = TokenClassificationOptions
    head = spec.TokenHead
    forms = (spec.Encoder, spec.Decoder)

    def preprocess(self, inputs: Sequence[str], options: TokenClassificationOptions) -> Batch:
        return self.encode(list(inputs), options)

    def forward(self, batch: Batch, options: TokenClassificationOptions) -> Output:
        return self.model(batch)

    def postprocess(
        self, batch: Batch, tensors: Output, options: TokenClassificationOptions
    ) -> list[list[dict[str, Any]]]:
        assert batch.texts is not None
        answers = []
        for text, logits in zip(batch.texts, tensors.split("logits"), strict=True):
            entities = list(self._entities(text, softmax(self.model.engine.to_numpy(logits))))
            key = "entity"
            if options.aggregation_strategy is Aggregation.SIMPLE:
                entities, key = [self._together(group) for group in neighbours(entities)], "entity_group"
            answers.append([entity for entity in entities if entity[key] not in options.ignore_labels])
        return answers

    def _entities(self, text: EncodedText, scores: Numbers) -> Iterator[dict[str, Any]]:
        head = self.model.spec.head
        assert isinstance(head, spec.TokenHead)
        unknown = self.tokenizer.special("unk_token")
        for index, label in enumerate(scores.argmax(axis=-1).tolist()):
            if text.sources[index] is None:
                continue
            start, end = text.characters[index].tolist()
            token = text.tokens[index]
            yield {
                "entity": head.labels[label],
                "score": float(scores[index, label]),
                "index": index,
                "word": text.text[start:end] if token == unknown else token,
                "start": start,
                "end": end,
            }

    def _together(self, group: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([entity["score"] for entity in group])),
            "word": self.tokenizer.join(entity["word"] for entity in group),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def neighbours(entities: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of one tag; a B- begins a new one."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        begins, tag = _tag(entity["entity"])
        if groups and not begins and tag == _tag(groups[-1][-1]["entity"])[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def _tag(label: str) -> tuple[bool, str]:
    """(whether it begins an entity, its kind)."""
    if label.startswith(("B-", "I-")):
        return label.startswith("B-"), label[2:]
    return False, label
