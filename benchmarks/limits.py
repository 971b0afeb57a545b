"""How fast this machine can read and multiply: the physical limits beside which a throughput is worth stating.

Each is the best of several tries in the same run, since a limit that noise has lowered is none.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

import triform
from benchmarks.machine import num_cores
from benchmarks.measure import seconds
from triform.engines import Use

BYTES_READ = 2**30
"""Many times the caches of a core; a shared last-level cache of hundreds of MiB would still help a little."""

MATRIX = 2048
TRIES = 5


def read_bandwidth() -> float:
    """Bytes per second: one thread for each core reads its share of 1 GiB of float32 once.

    What reads is the dot product of the numbers with themselves, because NumPy's sum keeps a core busy enough to
    become the limit itself.
    """
    parts = np.array_split(np.ones(BYTES_READ // 4, np.float32), num_cores())
    with ThreadPoolExecutor(len(parts)) as pool:
        return BYTES_READ / min(seconds(lambda: list(pool.map(_read, parts))) for _ in range(TRIES))


def _read(part: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return float(np.dot(part, part))


def multiplication_rate() -> float:
    """Floating-point operations per second of a float32 matrix product, by NumPy or torch, whichever is faster."""
    square = np.ones((MATRIX, MATRIX), np.float32)
    tensor = torch.from_numpy(square)
    # The first try of each starts its threads.
    by_numpy = min(seconds(lambda: square @ square) for _ in range(TRIES))
    by_torch = min(seconds(lambda: tensor @ tensor) for _ in range(TRIES))
    return 2 * MATRIX**3 / min(by_numpy, by_torch)


def weights_per_token(model: triform.Model) -> int:
    """How many weights every token meets: those of all linears, while of a table it reads one row."""
    declared = model.blueprint.declared.values()
    return sum(math.prod(parameter.shape) for parameter in declared if Use.LINEAR in parameter.use)
