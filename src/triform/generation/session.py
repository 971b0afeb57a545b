"""What a conversation has read so far, so that its next turn reads only what is new."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import numpy as np

from triform.errors import InputError
from triform.generation.cache import KeyValueCache


class Session:
    """The cache of one conversation, kept between calls of one model.

    A call hands over the whole conversation; what it has in common with the last one is not read again. One call at a
    time: other conversations, and other threads, have sessions of their own.
    """

    def __init__(self) -> None:
        self.num_reused = 0
        """Tokens of the last prompt that were not read again."""
        self._ids: list[int] = []
        self._cache: KeyValueCache | None = None
        self._in_use = Lock()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Held for the length of a call.

        Raises:
            InputError: another one is not over.
        """
        if not self._in_use.acquire(blocking=False):
            raise InputError(
                "session: another call still uses it. Close its stream first, or give each conversation its own."
            )
        try:
            yield
        finally:
            self._in_use.release()

    def take(self, prompt: Sequence[int], new_cache: KeyValueCache) -> KeyValueCache:
        """A cache that holds the beginning of a prompt, but never all of it: the last token's logits are wanted.

        Arguments:
            prompt: the whole conversation.
            new_cache: an empty one of the model, for the first call.

        Raises:
            InputError: the session belongs to another model.
        """
        cache = self._cache or new_cache
        if cache.stack is not new_cache.stack or cache.engine is not new_cache.engine:
            raise InputError("session: it began with another model. Give each model a session of its own.")
        self.num_reused = min(common_beginning([self._ids, prompt]), len(prompt) - 1)
        cache.truncate(np.array([self.num_reused]))
        # Unknown until the call is over: should it fail, nothing is remembered.
        self._cache, self._ids = None, []
        return cache

    def give_back(self, cache: KeyValueCache, ids: list[int]) -> None:
        """Remember a cache of one sequence, and the ids it holds."""
        self._cache, self._ids = cache, ids


def common_beginning(sequences: Sequence[Sequence[int]]) -> int:
    """How many ids all sequences begin with alike."""
    shortest = min(map(len, sequences))
    rows = np.array([sequence[:shortest] for sequence in sequences], np.int64)
    differs = (rows != rows[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shortest
