"""The tokens of a generation on their way from the executor to a route."""

import asyncio
from collections.abc import Callable
from time import monotonic

from triform.generation import GeneratedToken
from triform.serving.jobs import GenerationJob


class Tokens:
    """The tokens of a job, step by step; an asynchronous iterator of lists."""

    job: GenerationJob
    """The job that gives the tokens."""

    def __init__(self, saw_step: Callable[[float | None, float], None]) -> None:
        self.count = 0
        self.first_time: float | None = None
        """When the first token came."""
        self.has_ended = False
        self._last_time: float | None = None
        self._saw_step = saw_step
        self._queue: asyncio.Queue[list[GeneratedToken] | Exception | None] = asyncio.Queue()

    def add(self, tokens: list[GeneratedToken]) -> None:
        """Add the tokens of a step."""
        now = monotonic()
        self._saw_step(self._last_time, now)
        self._last_time = now
        if self.first_time is None:
            self.first_time = now
        self.count += len(tokens)
        self._queue.put_nowait(tokens)

    def end(self, result: Exception | None) -> None:
        """End the iterator, with the error if there is one."""
        self.has_ended = True
        self._queue.put_nowait(result)

    def __aiter__(self) -> "Tokens":
        return self

    async def __anext__(self) -> list[GeneratedToken]:
        found = await self._queue.get()
        if found is None:
            raise StopAsyncIteration
        if isinstance(found, Exception):
            raise found
        return found
