"""A growing sequence, and the finished answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triform.generation.grammar import Matcher

Alternatives = tuple[tuple[int, float], ...]
"""The most probable tokens at a place, the best first: ids, and log-probabilities before any setting changed them."""


class FinishReason(StrEnum):
    """The reason for the end of a sequence."""

    STOP = "stop"
    """An end token, or a stop string of the caller."""
    LENGTH = "length"
    """The limit of new tokens."""
    CONTEXT = "context"
    """The end of the model's context."""
    TIME = "time"
    """The caller's `max_time`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The most tokens after a prompt."""

    num_tokens: int
    reason: FinishReason = FinishReason.LENGTH
    """The reason that an answer at the limit gives."""


@dataclass(slots=True)
class GrowingSequence:
    """The ids of a sequence: the prompt and the generated tokens."""

    ids: list[int]
    """The prompt, or the decoder start token, then the generated tokens."""
    prompt_length: int
    limit: Limit
    log_probabilities: list[float] = field(default_factory=list)
    """Log-probabilities of the generated tokens, before any setting changed them."""
    num_forgotten: int = 0
    """Tokens at the beginning outside the sliding context."""
    answer: int = 0
    """Number of the answer to its prompt, from 0."""
    page_key: bytes = b""
    """Key of the full pages in the prefix cache, from `pages.page_key`."""
    alternatives: list[Alternatives] = field(default_factory=list)
    """The alternatives to the generated tokens; empty unless requested."""
    matcher: "Matcher | None" = None
    """The place in a grammar; None without one."""

    @property
    def num_new(self) -> int:
        """Count the generated tokens."""
        return len(self.ids) - self.prompt_length

    def lengthened(self, token: int, log_probability: float) -> "GrowingSequence":
        """Copy the sequence, and append a token to the copy."""
        copy = self.copy(self.answer)
        copy.ids.append(token)
        copy.log_probabilities.append(log_probability)
        return copy

    def copy(self, answer: int) -> "GrowingSequence":
        """Copy the sequence as the answer number `answer`."""
        return GrowingSequence(
            self.ids.copy(),
            self.prompt_length,
            self.limit,
            self.log_probabilities.copy(),
            self.num_forgotten,
            answer,
            self.page_key,
            self.alternatives.copy(),
            None if self.matcher is None else self.matcher.copy(),
        )

    @property
    def new_ids(self) -> list[int]:
        """Return the generated tokens."""
        return self.ids[self.prompt_length :]

    @property
    def is_at_limit(self) -> bool:
        """Check whether the limit is reached."""
        return self.num_new >= self.limit.num_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A finished answer."""

    ids: list[int]
    """Generated ids, an end token included."""
    finish_reason: FinishReason
    log_probabilities: list[float] | None = None
    """Log-probabilities of the ids, before any setting changed them; None unless requested."""
    score: float | None = None
    """Score of beam search: the sum of the changed log-probabilities, divided by length^length_penalty."""
    alternatives: Sequence[Alternatives] = ()
    """The alternatives to each id; empty unless requested."""
