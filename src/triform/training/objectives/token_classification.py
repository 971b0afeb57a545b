"""Token classification: a label for each word, at the first token. Devlin et al. 2018, section 5.3."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.nn import functional

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError
from triform.inputs import EncodedText, Tokenizer
from triform.model import Model, NewHead
from triform.training.objective import Loss, Objective, ObjectiveSettings
from triform.training.objectives.texts import compute_logits, expect_head, make_reader, pack, read_texts, to_tensor
from triform.training.settings import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenClassificationSettings(ObjectiveSettings):
    """Settings of token-classification."""

    labels: Sequence[str] | None = setting(None, "Labels of a new head; by default those of the training files.")


@dataclass(frozen=True, eq=False, slots=True)
class TaggedText:
    """Sentence, or window of a long sentence, of n tokens and w words."""

    ids: Integers
    """(n,)"""
    token_type_ids: Integers
    """(n,)"""
    rows: Integers
    """(w,) row of each word's first token."""
    targets: Integers
    """(w,) number of each word's label."""


class TokenClassification(Objective[TaggedText]):
    """Token classification: `tokens`, a list of words, and `tags`, a label for each word.

    Words are joined by spaces, as in a text. A word without tokens has no target. A long sentence is read in windows
    that overlap; each word is a target in one of them.

    Raises:
        WrongTaskError: the model has another head.
    """

    name = "token-classification"
    rows = "tokens, tags"
    head = spec.TokenHead
    task = "token-classification"
    settings_type = TokenClassificationSettings

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: TokenClassificationSettings) -> None:
        head = expect_head(model, spec.TokenHead)
        self._reader = make_reader(model, tokenizer, max_length=settings.max_length)
        self._labels = {label: number for number, label in enumerate(head.labels)}

    @classmethod
    def new_head(cls, settings: TokenClassificationSettings, rows: Iterable[Row]) -> NewHead:
        return NewHead(cls.head, labels=find_labels(rows) if settings.labels is None else settings.labels)

    def examples(self, row: Row) -> list[TaggedText]:
        words, tags = self._words_and_tags(row)
        targets = np.array([self._labels[tag] for tag in tags])
        windows = self._reader.read_in_windows(row, " ".join(words), overlap=None)
        return [example for window in windows for example in _tagged(window, words, targets)]

    def check_answer(self, row: Row) -> None:
        self._words_and_tags(row)

    def _words_and_tags(self, row: Row) -> tuple[list[str], list[str]]:
        words, tags = read_texts(row, "tokens"), read_texts(row, "tags")
        if len(words) != len(tags) or not words:
            raise InputError(f"{row.where}: expected a tag for each token, got {len(words)} and {len(tags)}.")
        unknown = [tag for tag in tags if tag not in self._labels]
        if unknown:
            raise InputError(f"{row.where}: tag {unknown[0]!r} is none of the model's: {', '.join(self._labels)}.")
        return words, tags

    def num_tokens(self, example: TaggedText) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[TaggedText], rng: np.random.Generator) -> Loss:
        batch = pack([each.ids for each in examples], [each.token_type_ids for each in examples])
        rows = np.concatenate([each.rows + begin for each, begin in zip(examples, batch.spans.begins, strict=True)])
        targets = np.concatenate([each.targets for each in examples])
        logits = compute_logits(model, batch, logits_at=rows)
        return Loss(functional.cross_entropy(logits, to_tensor(model, targets), reduction="sum"), len(targets))


def find_labels(rows: Iterable[Row]) -> list[str]:
    """Collect all labels of some rows, in alphabetical order."""
    return sorted({tag for row in rows for tag in read_texts(row, "tags")})


def _tagged(window: EncodedText, words: Sequence[str], targets: Integers) -> Iterator[TaggedText]:
    """Make an example of a window's words and targets; nothing for a window without targets."""
    lengths = np.array([len(word) for word in words])
    begins = np.cumsum(lengths + 1) - lengths - 1
    # A token belongs to the word of its last character, because its first may be the space before the word.
    lasts = window.characters[:, 1] - 1
    word_of = np.searchsorted(begins, lasts, side="right") - 1
    is_in_word = (window.characters[:, 1] > window.characters[:, 0]) & (lasts < begins[word_of] + lengths[word_of])
    rows = np.flatnonzero(is_in_word & [sequence is not None for sequence in window.sequence_ids])
    found, first = np.unique(word_of[rows], return_index=True)
    rows = rows[first]
    if window.window is not None:
        # The first window that holds a word may hold only its end.
        is_own = (window.window.begin <= rows) & (rows < window.window.end)
        rows, found = rows[is_own], found[is_own]
    if len(rows):
        yield TaggedText(window.ids, window.token_type_ids, rows, targets[found])
