"""Search of the fastest setting for a peer, in a short sweep before the measurement."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import num_cores
from benchmarks.measure import seconds

BATCH_SIZES = (8, 16, 32, 64)
FIRST_BATCH_SIZE = 16
"""Tried with one batch at a time and with one for each core; the other sizes with the better of these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A division of work for a runtime."""

    batch_size: int
    streams: int
    """Batches at work at once."""
    threads: int
    """Threads of each stream."""

    def __str__(self) -> str:
        return f"{self.batch_size} a batch, {self.streams} × {self.threads} threads"


Load = Callable[[Setting], Callable[[], object]]
"""Loads a runtime with a setting, and returns the call to time."""


def spread(batch_size: int) -> list[Setting]:
    """Return two settings: all cores on one batch, and a batch for each core."""
    cores = num_cores()
    return [Setting(batch_size=batch_size, streams=streams, threads=cores // streams) for streams in sorted({1, cores})]


def alone() -> list[Setting]:
    """Return settings for a batch of one sequence, on one thread and on all."""
    return [Setting(batch_size=1, streams=1, threads=threads) for threads in sorted({1, num_cores()})]


def fastest(load: Load, settings: Iterable[Setting]) -> tuple[float, Setting]:
    """Return the seconds and the fastest of `settings`; each runs once before the timing."""
    timed = []
    for setting in settings:
        run = load(setting)
        run()
        timed.append((seconds(run), setting))
    return min(timed, key=lambda pair: pair[0])


def best_batches(load: Load, record: Path) -> Setting:
    """Return the best batch size and division of cores, kept in the file `record`."""
    if record.exists():
        return Setting(**json.loads(record.read_text()))
    best = fastest(load, spread(FIRST_BATCH_SIZE))
    like = best[1]
    sizes = [
        Setting(batch_size=size, streams=like.streams, threads=like.threads)
        for size in BATCH_SIZES
        if size != like.batch_size
    ]
    _, setting = min(best, fastest(load, sizes), key=lambda pair: pair[0])
    record.write_text(json.dumps(asdict(setting)))
    return setting
