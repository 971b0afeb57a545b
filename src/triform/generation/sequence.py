"""A sequence on its way, and what has become of it. Knows nothing of models."""

from dataclasses import dataclass, field
from enum import StrEnum


class FinishReason(StrEnum):
    """What ended a sequence."""

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
    """How many tokens may follow a prompt."""

    num_tokens: int
    reason: FinishReason = FinishReason.LENGTH
    """Why not more."""


@dataclass(slots=True)
class GrowingSequence:
    """The ids of a decoder so far."""

    ids: list[int]
    """The prompt, or a decoder's start token, and what has followed."""
    prompt_length: int
    limit: Limit
    log_probabilities: list[float] = field(default_factory=list)
    """Of the tokens that have followed, before any setting; where somebody asked for them."""
    num_forgotten: int = 0
    """Tokens at the beginning that the decoder no longer sees."""

    @property
    def num_new(self) -> int:
        """Tokens that have followed."""
        return len(self.ids) - self.prompt_length

    def lengthened(self, token: int, log_probability: float) -> "GrowingSequence":
        """A sequence of its own with one more token."""
        known = [*self.log_probabilities, log_probability]
        return GrowingSequence([*self.ids, token], self.prompt_length, self.limit, known, self.num_forgotten)

    @property
    def new_ids(self) -> list[int]:
        """The tokens that have followed."""
        return self.ids[self.prompt_length :]

    @property
    def is_at_limit(self) -> bool:
        """Whether no more may follow."""
        return self.num_new >= self.limit.num_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A whole answer."""

    ids: list[int]
    """Its new ids, an end token included."""
    finish_reason: FinishReason
    log_probabilities: list[float] | None = None
    """What the model gave each of them, before any setting; if asked for."""
    score: float | None = None
    """Of beam search: the sum of the log-probabilities that settings have changed, divided by length^length_penalty."""
