"""The number of threads of the kernels' pool."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from triform.errors import EngineError

MOST = 1024


def num_threads() -> int:
    """Read `TRIFORM_THREADS`, or else count the usable cores of this process.

    Raises:
        EngineError: `TRIFORM_THREADS` is not a number of threads.
    """
    asked = os.environ.get("TRIFORM_THREADS", "")
    if not asked:
        return usable_cores()
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked) <= MOST):
        raise EngineError(f"TRIFORM_THREADS={asked!r}: expected a number of threads from 1 to {MOST}.")
    return int(asked)


def usable_cores(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the cores of the process's affinity, limited by the CPU time of the control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(-(-quota // period) for quota, period in _limits(groups, mounted))])


def _limits(groups: Path, mounted: Path) -> Iterator[tuple[int, int]]:
    """List (quota, period) in microseconds of the process's control groups and their parents, version 1 or 2."""
    with suppress(OSError):
        for line in groups.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if "cpu" in controllers.split(","):
                top, files = mounted / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
            elif not controllers:
                top, files = mounted, ["cpu.max"]
            else:
                continue
            folder = top / group.lstrip("/")
            for each in (folder, *folder.parents):
                # Without a limit: the file of version 2 says "max", that of version 1 "-1".
                with suppress(OSError, ValueError):
                    quota, period = map(int, " ".join((each / file).read_text() for file in files).split())
                    if quota > 0:
                        yield quota, period
