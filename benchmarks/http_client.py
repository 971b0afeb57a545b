"""A small HTTP client that costs little beside the server. Its connections stay open."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit


@dataclass(kw_only=True)
class Load:
    """What clients have seen: the time of every request, and for streams the time of every event."""

    seconds: list[float] = field(default_factory=list)
    gaps: list[list[float]] = field(default_factory=list)
    """Seconds between the events of each stream."""
    statuses: dict[int, int] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def rate(self) -> float:
        """Return the requests answered with 200 in a second."""
        return self.statuses.get(200, 0) / self.elapsed

    def percentile(self, share: float) -> float:
        """Return the time within which a share of the requests was answered, in milliseconds."""
        ordered = sorted(self.seconds)
        return 1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Connection:
    """A connection that stays open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=2**24)

    async def post(self, path: str, body: bytes, *, method: str = "POST") -> tuple[int, bytes, list[float]]:
        """Send a request; return the status, the body, and when each piece of the body came."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        status = int(lines[0].split()[1])
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        if "content-length" in headers:
            return status, await self._reader.readexactly(int(headers["content-length"])), [time.perf_counter()]
        content, times = b"", []
        while size := int(await self._reader.readline(), 16):
            content += await self._reader.readexactly(size)
            await self._reader.readline()
            times.append(time.perf_counter())
        await self._reader.readline()
        return status, content, times

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()


async def _run(url: str, path: str, bodies: Sequence[bytes], num_clients: int, seconds: float) -> Load:
    load = Load()
    begin = time.perf_counter()

    async def client(number: int) -> None:
        connection = Connection(url)
        await connection.open()
        place = number
        while (sent := time.perf_counter()) < begin + seconds:
            status, _, times = await connection.post(path, bodies[place % len(bodies)])
            load.seconds.append(time.perf_counter() - sent)
            load.statuses[status] = load.statuses.get(status, 0) + 1
            load.gaps.append([later - earlier for earlier, later in pairwise(times)])
            place += num_clients
        connection.close()

    await asyncio.gather(*(client(number) for number in range(num_clients)))
    load.elapsed = time.perf_counter() - begin
    return load


def run_load(url: str, path: str, bodies: Sequence[Any], *, num_clients: int, seconds: float) -> Load:
    """Let clients send bodies in turn for a time, each one request after another."""
    encoded = [json.dumps(body).encode() for body in bodies]
    return asyncio.run(_run(url, path, encoded, num_clients, seconds))


def ask(url: str, path: str, body: Any) -> Any:
    """Send one request; return the JSON.

    Raises:
        SystemExit: the answer is an error.
    """

    async def once() -> Any:
        connection = Connection(url)
        await connection.open()
        status, content, _ = await connection.post(path, json.dumps(body).encode())
        connection.close()
        if status != 200:
            raise SystemExit(f"{path} was answered with {status}: {content[:500]!r}")
        return json.loads(content)

    return asyncio.run(once())
