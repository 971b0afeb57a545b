"""The rules that end a sequence."""

import time
from collections.abc import Callable, Sequence

from triform.generation.config import GenerationConfig
from triform.generation.sequence import FinishReason, GrowingSequence

Decode = Callable[[Sequence[int]], str]
"""Ids → text."""


class Stopping:
    """The stopping rules of a call. `max_time` counts from the creation of this object.

    Arguments:
        config: the settings.
        decode: turns ids into text; needed for stop strings only.
    """

    def __init__(self, config: GenerationConfig, decode: Decode | None) -> None:
        self._end_tokens = frozenset(config.eos_token_id)
        self._stop_strings = config.stop_strings
        # A token holds a byte or more, a character four at most; the first token may lose its space in decoding.
        self._tail = 4 * max(map(len, self._stop_strings), default=0) + 1
        self._decode = decode
        self._deadline = None if config.max_time is None else time.monotonic() + config.max_time

    def is_out_of_time(self) -> bool:
        """Check whether `max_time` is over. Called once a step, so all sequences end together."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def reason(self, sequence: GrowingSequence, token: int, *, out_of_time: bool = False) -> FinishReason | None:
        """Return the reason to end a sequence with this token, or None to continue."""
        if token in self._end_tokens or (self._stop_strings and self._ends_in_a_stop_string(sequence, token)):
            return FinishReason.STOP
        if sequence.num_new + 1 >= sequence.limit.num_tokens:
            return sequence.limit.reason
        return FinishReason.TIME if out_of_time else None

    def _ends_in_a_stop_string(self, sequence: GrowingSequence, token: int) -> bool:
        assert self._decode is not None, "a caller that sets stop strings brings a tokenizer"
        tail = self._decode([*sequence.new_ids[-self._tail :], token])
        return any(stop in tail for stop in self._stop_strings)
