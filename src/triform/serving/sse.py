"""Server-sent events: `data: …` lines, comments that keep a silent connection open, and the end mark of OpenAI."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


def event(data: Any, *, name: str | None = None) -> bytes:
    """Write an event with JSON data, and a name for clients that tell events by names."""
    line = b"data: " + orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n\n"
    return line if name is None else f"event: {name}\n".encode() + line


async def with_pings(events: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """Yield events, and a comment after each time of silence."""
    upcoming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=seconds)
            if not done:
                yield PING
                continue
            found = upcoming.result()
            if found is None:
                return
            yield found
            upcoming = asyncio.ensure_future(anext(events, None))
    finally:
        upcoming.cancel()
