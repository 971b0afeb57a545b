"""A label for each word, said of its first token. Devlin et al. 2018, section 5.3."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.nn import functional

from triform import spec
from triform.data import Row
from triform.engines import Integers
from triform.errors import InputError, WrongTaskError
from triform.inputs import EncodedText, Tokenizer
from triform.model import Model
from triform.training.objective import Loss
from triform.training.objectives.texts import logits_of, pack, reader_of, tensor, texts_in


@dataclass(frozen=True, eq=False, slots=True)
class Tagged:
    """A sentence, or a window of a long one."""

    ids: Integers
    """(n,)"""
    segment_ids: Integers
    """(n,)"""
    rows: Integers
    """(w,) the first token of each word."""
    targets: Integers
    """(w,) the number of its label."""


class TokenClassification:
    """Rows with `tokens`, which are words, and `tags`, a label for each.

    Words are joined by spaces, as the model will meet them in a text. One that the tokenizer makes nothing of has no
    target. A long sentence is read in windows that overlap; each word is learned in one of them.

    Arguments:
        model: with a token head.
        tokenizer, max_length: see `reader_of`.

    Raises:
        WrongTaskError: the model has another head.
    """

    head = spec.TokenHead

    def __init__(self, model: Model, tokenizer: Tokenizer, *, max_length: int | None = None) -> None:
        head = model.spec.head
        if not isinstance(head, spec.TokenHead):
            raise WrongTaskError(
                f"{model.checkpoint.source} does not classify tokens. Ask for a new head: "
                'start(…, head="token-classification", labels=[…]).'
            )
        self._reader = reader_of(model, tokenizer, max_length=max_length)
        self._labels = {label: number for number, label in enumerate(head.labels)}

    @staticmethod
    def labels(rows: Iterable[Row]) -> list[str]:
        """All labels of some rows, in alphabetical order."""
        return sorted({tag for row in rows for tag in texts_in(row, "tags")})

    def examples(self, row: Row) -> list[Tagged]:
        words, tags = texts_in(row, "tokens"), texts_in(row, "tags")
        if len(words) != len(tags) or not words:
            raise InputError(f"{row.where}: expected a tag for each token, got {len(words)} and {len(tags)}.")
        unknown = [tag for tag in tags if tag not in self._labels]
        if unknown:
            raise InputError(f"{row.where}: tag {unknown[0]!r} is none of the model's: {', '.join(self._labels)}.")
        targets = np.array([self._labels[tag] for tag in tags])
        windows = self._reader.read_in_windows(row, " ".join(words), overlap=None)
        return [example for window in windows for example in _tagged(window, words, targets)]

    def tokens(self, example: Tagged) -> int:
        return len(example.ids)

    def loss(self, model: Model, examples: Sequence[Tagged], rng: np.random.Generator) -> Loss:
        batch = pack([each.ids for each in examples], [each.segment_ids for each in examples])
        rows = np.concatenate([each.rows + begin for each, begin in zip(examples, batch.offsets[:-1], strict=True)])
        targets = np.concatenate([each.targets for each in examples])
        logits = logits_of(model, batch, logits_at=rows)
        return Loss(functional.cross_entropy(logits, tensor(model, targets), reduction="sum"), len(targets))


def _tagged(window: EncodedText, words: Sequence[str], targets: Integers) -> Iterator[Tagged]:
    """What a window answers for; nothing where it has no word to learn."""
    lengths = np.array([len(word) for word in words])
    begins = np.cumsum(lengths + 1) - lengths - 1
    # By their last character, since the first may be the space before a word.
    lasts = window.characters[:, 1] - 1
    word_of = np.searchsorted(begins, lasts, side="right") - 1
    is_in_word = (window.characters[:, 1] > window.characters[:, 0]) & (lasts < begins[word_of] + lengths[word_of])
    rows = np.flatnonzero(is_in_word & [source is not None for source in window.sources])
    found, first = np.unique(word_of[rows], return_index=True)
    rows = rows[first]
    if window.window is not None:
        # The first window to hold a word may hold its end alone.
        is_own = (window.window.begin <= rows) & (rows < window.window.end)
        rows, found = rows[is_own], found[is_own]
    if len(rows):
        yield Tagged(window.ids, window.segment_ids, rows, targets[found])
