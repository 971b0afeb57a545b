"""The server beyond its limits: 64 times as many clients as it admits, and memory over many requests.

    python -m benchmarks.serving_load [--seconds N] [--requests N]

While the clients ask, `/health` is asked 20 times a second. Refused requests (429) and answers are counted apart; any
other outcome, and any broken connection, is a failure. Then clients within the limit ask until many thousand requests
are answered, and the resident memory and the open files of the server are read on the way.
"""

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from pathlib import Path

from benchmarks import servers
from benchmarks.http_client import Connection
from benchmarks.workload import minilm_folder

ADMITTED = 16
TIMES = 64
PATH = "/v1/embeddings"
BODY = json.dumps({"model": "model", "input": "the cat sat on the mat near the old green hills"}).encode()


def percentile(values: list[float], share: float) -> float:
    """Return a percentile of times in seconds, in milliseconds."""
    ordered = sorted(values)
    return 1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


async def overload(url: str, seconds: float) -> dict[str, float]:
    """Ask with many clients at once; return what they saw."""
    end = time.perf_counter() + seconds
    outcomes: Counter[str] = Counter()
    times: dict[str, list[float]] = {"200": [], "429": [], "health": []}

    async def client() -> None:
        connection = Connection(url)
        try:
            await connection.open()
            while (begin := time.perf_counter()) < end:
                status, _, _ = await connection.post(PATH, BODY)
                outcomes[str(status)] += 1
                times.setdefault(str(status), []).append(time.perf_counter() - begin)
                if status == 429:
                    await asyncio.sleep(1)
        except (OSError, asyncio.IncompleteReadError) as error:
            outcomes[f"broken: {error}"] += 1
        finally:
            connection.close()

    async def health() -> None:
        connection = Connection(url)
        await connection.open()
        while (begin := time.perf_counter()) < end:
            status, _, _ = await connection.post("/health", b"", method="GET")
            outcomes[f"health {status}"] += 1
            times["health"].append(time.perf_counter() - begin)
            await asyncio.sleep(0.05)
        connection.close()

    await asyncio.gather(health(), *(client() for _ in range(ADMITTED * TIMES)))
    return {
        **{f"outcomes, {name}": count for name, count in outcomes.items()},
        **{
            f"{name}, p{share * 100:g}, ms": percentile(own, share)
            for name, own in times.items()
            for share in (0.5, 0.99)
        },
    }


async def endure(url: str, process: int, num_requests: int) -> dict[str, float]:
    """Ask many requests within the limit; return memory and open files on the way."""
    found: dict[str, float] = {}
    done = 0

    async def client() -> None:
        nonlocal done
        connection = Connection(url)
        await connection.open()
        while done < num_requests:
            done += 1
            await connection.post(PATH, BODY)
            if done % (num_requests // 3) == 0:
                found[f"after {done}: resident, MiB"] = resident(process)
                found[f"after {done}: open files"] = len(os.listdir(f"/proc/{process}/fd"))
        connection.close()

    await asyncio.gather(*(client() for _ in range(ADMITTED // 2)))
    return found


def resident(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=30_000)
    given = parser.parse_args()
    command = [*servers.ours(minilm_folder()), "--max-requests", str(ADMITTED)]
    with servers.running(command) as server:
        found = asyncio.run(overload(server.url, given.seconds))
        found |= asyncio.run(endure(server.url, server.process, given.requests))
    for name, value in found.items():
        print(f"{name}: {value:.6g}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
