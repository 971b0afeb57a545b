"""The rules that end a sequence."""

import time
from collections.abc import Callable, Sequence

from triform.generation.config import GenerationConfig
from triform.generation.sequence import FinishReason, GrowingSequence

Decode = Callable[[Sequence[int]], str]
"""Ids → text."""


class Stopping:
    """The rules of one call. `max_time` counts from the making of this object.

    Arguments:
        config: the settings.
        decode: turns ids into text, where there are stop strings.
    """

    def __init__(self, config: GenerationConfig, decode: Decode | None) -> None:
        self._end_tokens = frozenset(config.eos_token_id)
        self._stop_strings = config.stop_strings
        # A token holds a byte or more, a character four at most; the first token may lose its space in decoding.
        self._tail = 4 * max(map(len, self._stop_strings), default=0) + 1
        self._decode = decode
        self._deadline = None if config.max_time is None else time.monotonic() + config.max_time

    def is_out_of_time(self) -> bool:
        """Tell whether all sequences must end; asked once a step, so that they end together."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def reason(self, sequence: GrowingSequence, token: int, *, out_of_time: bool = False) -> FinishReason | None:
        """Tell why a sequence that takes this token goes no further, or None where it goes on."""
        if token in self._end_tokens or (self._stop_strings and self._ends_in_a_stop_string(sequence, token)):
            return FinishReason.STOP
        if sequence.num_new + 1 >= sequence.limit.num_tokens:
            return sequence.limit.reason
        return FinishReason.TIME if out_of_time else None

    def _ends_in_a_stop_string(self, sequence: GrowingSequence, token: int) -> bool:
        assert self._decode is not None, "a caller that sets stop strings brings a tokenizer"
        tail = self._decode([*sequence.new_ids[-self._tail :], token])
        return any(stop in tail for stop in self._stop_strings)
