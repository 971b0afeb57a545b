"""A label for each token: names of people and places, parts of speech."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from triform import spec
from triform.errors import InputError, shown
from triform.inputs import Batch, EncodedText, merge_windows
from triform.tasks.options import option
from triform.tasks.probabilities import Numbers, softmax
from triform.tasks.task import Rows
from triform.tasks.text_task import TextTask, WindowOptions


class Aggregation(StrEnum):
    """The rule by which tokens are joined to entities."""

    NONE = "none"
    """Each token alone."""
    SIMPLE = "simple"
    """Neighbouring tokens of one entity, by their B- and I- tags."""
    FIRST = "first"
    """Like simple, for whole words; a word has the probabilities of its first token."""
    AVERAGE = "average"
    """Like simple, for whole words; a word has the mean of its tokens' probabilities."""
    MAX = "max"
    """Like simple, for whole words; a word has the probabilities of its most certain token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenClassificationOptions(WindowOptions):
    """Options of token-classification."""

    aggregation_strategy: Aggregation = option(Aggregation.NONE, "Whether to put the tokens of an entity together.")
    ignore_labels: Sequence[str] = option(("O",), "Labels that are not reported.")
    is_split_into_words: bool = option(False, "Whether each input is a list of words instead of a text.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A token of the text and its probabilities."""

    index: int
    """The row of the token, special tokens included."""
    word: str
    start: int
    end: int
    probabilities: Numbers
    """(labels,)"""
    is_subword: bool
    """Whether the token continues the word of the token before it."""


class TokenClassification(TextTask[Rows, list[dict[str, Any]]]):
    """Answers `[{entity, score, index, word, start, end}]`; with aggregation `{entity_group, score, word, start, end}`.

    `start` and `end` count characters of the text, `index` its tokens. With `is_split_into_words` an input is a list of
    words; characters count in the words joined by spaces. A long text is read in windows that overlap,
    none of it left out, and tokens are put together once the windows are, so that an entity across a border is whole.
    """

    name = "token-classification"
    summary = "Labels for the words of each text, such as names of people and places."
    example = "Ada Lovelace lived in London."
    options_type = TokenClassificationOptions
    head = spec.TokenHead
    forms = (spec.Encoder, spec.Decoder)

    def is_one(self, inputs: Any, options: TokenClassificationOptions) -> bool:
        if not options.is_split_into_words:
            return super().is_one(inputs, options)
        return isinstance(inputs, list | tuple) and bool(inputs) and all(isinstance(word, str) for word in inputs)

    def one(self, given: Any, answer: Any, options: TokenClassificationOptions) -> Any:
        return [answer] if options.is_split_into_words else answer

    def preprocess(self, inputs: Sequence[Any], options: TokenClassificationOptions) -> Batch:
        texts = [joined(words) for words in inputs] if options.is_split_into_words else list(inputs)
        return self.encode_windows(texts, options)

    def forward(self, batch: Batch, options: TokenClassificationOptions) -> Rows:
        return self.logits(batch)

    def num_rows(self, batch: Batch) -> int:
        return batch.num_rows

    def postprocess(
        self, batch: Batch, tensors: Rows, options: TokenClassificationOptions
    ) -> list[list[dict[str, Any]]]:
        strategy = options.aggregation_strategy
        key = "entity" if strategy is Aggregation.NONE else "entity_group"
        answers = []
        for text, logits in merge_windows(batch, tensors):
            tokens = list(self._tokens(text, softmax(logits)))
            entities = self._entities(tokens, strategy)
            if strategy is not Aggregation.NONE:
                entities = [self._together(group) for group in neighbours(entities)]
            answers.append([entity for entity in entities if entity[key] not in options.ignore_labels])
        return answers

    def _tokens(self, text: EncodedText, probabilities: Numbers) -> Iterator[Token]:
        unknown = self.tokenizer.special("unk_token")
        for index, token in enumerate(text.tokens):
            if text.sequence_ids[index] is None:
                continue
            start, end = text.characters[index].tolist()
            surface = text.text[start:end]
            if self.tokenizer.marks_subwords:
                # The mark makes a subword longer than its characters in the text.
                is_subword = len(token) != len(surface)
            else:
                is_subword = start > 0 and " " not in text.text[start - 1 : start + 1]
            is_unknown = token == unknown
            yield Token(
                index=index,
                word=surface if is_unknown else token,
                start=start,
                end=end,
                probabilities=probabilities[index],
                is_subword=is_subword and not is_unknown,
            )

    def _entities(self, tokens: list[Token], strategy: Aggregation) -> list[dict[str, Any]]:
        if strategy in (Aggregation.NONE, Aggregation.SIMPLE):
            return [self._entity([token], token.word, token.probabilities) for token in tokens]
        return [
            self._entity(word, self.tokenizer.join(token.word for token in word), of_word(word, strategy))
            for word in words(tokens)
        ]

    def _entity(self, tokens: list[Token], word: str, probabilities: Numbers) -> dict[str, Any]:
        head = self.model.spec.head
        assert isinstance(head, spec.TokenHead)
        label = int(probabilities.argmax())
        return {
            "entity": head.labels[label],
            "score": float(probabilities[label]),
            "index": tokens[0].index,
            "word": word,
            "start": tokens[0].start,
            "end": tokens[-1].end,
        }

    def _together(self, group: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([entity["score"] for entity in group])),
            "word": self.tokenizer.join(entity["word"] for entity in group),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def joined(words: Any) -> str:
    """Join a list of words to a text, with a space between two words.

    Raises:
        InputError: not a list of words, or an empty word.
    """
    if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) and word for word in words):
        raise InputError(
            f"Expected a list of one or more words, got {shown(words)}. For texts leave is_split_into_words out."
        )
    return " ".join(words)


def words(tokens: list[Token]) -> list[list[Token]]:
    """Group tokens by word; words are separated by spaces where the vocabulary does not mark subwords."""
    found: list[list[Token]] = []
    for token in tokens:
        if found and token.is_subword:
            found[-1].append(token)
        else:
            found.append([token])
    return found


def of_word(tokens: list[Token], strategy: Aggregation) -> Numbers:
    """Combine the probabilities of a word's tokens into an array of shape (labels,)."""
    rows = np.array([token.probabilities for token in tokens])
    if strategy is Aggregation.AVERAGE:
        mean: Numbers = rows.mean(axis=0)
        return mean
    return tokens[int(rows.max(axis=-1).argmax()) if strategy is Aggregation.MAX else 0].probabilities


def neighbours(entities: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group neighbouring entities of one tag; a B- tag begins a new group."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        begins, tag = _tag(entity["entity"])
        if groups and not begins and tag == _tag(groups[-1][-1]["entity"])[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def _tag(label: str) -> tuple[bool, str]:
    """Parse a label → (begins an entity, kind of entity)."""
    if label.startswith(("B-", "I-")):
        return label.startswith("B-"), label[2:]
    return False, label
