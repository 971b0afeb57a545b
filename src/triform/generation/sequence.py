"""A sequence while it grows, and the answer that it becomes. Knows nothing of models."""

from dataclasses import dataclass, field
from enum import StrEnum


class FinishReason(StrEnum):
    """The cause that ended a sequence."""

    STOP = "stop"
    """The model, by an end token, or a text that the caller stops at."""
    LENGTH = "length"
    """The limit of new tokens."""
    CONTEXT = "context"
    """The end of the model's context."""
    TIME = "time"
    """The caller's `max_time`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The number of tokens that may follow a prompt."""

    num_tokens: int
    reason: FinishReason = FinishReason.LENGTH
    """Why not more."""


@dataclass(slots=True)
class GrowingSequence:
    """The ids of a decoder so far."""

    ids: list[int]
    """The prompt, or a decoder's start token, and the tokens that have followed."""
    prompt_length: int
    limit: Limit
    log_probabilities: list[float] = field(default_factory=list)
    """Log-probabilities of the tokens that have followed, before any setting changed them."""
    num_forgotten: int = 0
    """Tokens at the beginning that the decoder no longer sees."""
    answer: int = 0
    """Number of the answer among those to one prompt."""
    page_key: bytes = b""
    """Key of the full pages that the prefix cache knows, as `pages.page_key` chains them."""

    @property
    def num_new(self) -> int:
        """Count the tokens that have followed."""
        return len(self.ids) - self.prompt_length

    def lengthened(self, token: int, log_probability: float) -> "GrowingSequence":
        """Copy the sequence, with one more token."""
        copy = self.copy(self.answer)
        copy.ids.append(token)
        copy.log_probabilities.append(log_probability)
        return copy

    def copy(self, answer: int) -> "GrowingSequence":
        """Copy the sequence, to become another answer."""
        return GrowingSequence(
            self.ids.copy(),
            self.prompt_length,
            self.limit,
            self.log_probabilities.copy(),
            self.num_forgotten,
            answer,
            self.page_key,
        )

    @property
    def new_ids(self) -> list[int]:
        """Return the tokens that have followed."""
        return self.ids[self.prompt_length :]

    @property
    def is_at_limit(self) -> bool:
        """Tell whether no more tokens may follow."""
        return self.num_new >= self.limit.num_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A whole answer."""

    ids: list[int]
    """New ids, an end token included."""
    finish_reason: FinishReason
    log_probabilities: list[float] | None = None
    """Log-probabilities that the model gave the ids, before any setting changed them; if asked for."""
    score: float | None = None
    """Score of beam search: the sum of the log-probabilities that settings have changed, over length^length_penalty."""
