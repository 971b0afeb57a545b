"""Physical limits of the machine, for comparison with a throughput: read bandwidth and multiplication rate.

Each is the best of several tries in the same run, since a limit that noise has lowered is none.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch

import triform
from benchmarks.machine import num_cores
from benchmarks.measure import seconds
from benchmarks.ours import linear_weights
from triform.engines import FORMATS, Engine, Parameter, StoredTensor
from triform.engines.native import NativeEngine
from triform.engines.native.engine import FORMAT_CODES

BYTES_READ = 2**30
"""Many times the caches of a core; a shared last-level cache of hundreds of MiB would still help a little."""

MATRIX = 2048
TRIES = 5


class Reader:
    """A reader of 1 GiB of float32; the threads, one for each core, share the work.

    The dot product of the numbers with themselves reads, because NumPy's sum keeps a core busy enough to
    become the limit; the C library's memchr is not faster.
    """

    def __init__(self) -> None:
        self._parts = np.array_split(np.ones(BYTES_READ // 4, np.float32), num_cores())
        self._pool = ThreadPoolExecutor(len(self._parts))

    def bandwidth(self) -> float:
        """Measure bytes per second of one pass."""
        return BYTES_READ / seconds(lambda: list(self._pool.map(_read, self._parts)))


def read_bandwidth() -> float:
    """Return bytes per second of the best of several passes."""
    reader = Reader()
    return max(reader.bandwidth() for _ in range(TRIES))


def _read(part: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return float(np.dot(part, part))


@cache
def multiplication_rate() -> float:
    """Return floating-point operations per second of a float32 matrix product, the best of NumPy and torch."""
    square = np.ones((MATRIX, MATRIX), np.float32)
    tensor = torch.from_numpy(square)
    # The first try of each starts its threads.
    by_numpy = min(seconds(lambda: square @ square) for _ in range(TRIES))
    by_torch = min(seconds(lambda: tensor @ tensor) for _ in range(TRIES))
    return 2 * MATRIX**3 / min(by_numpy, by_torch)


def arithmetic_peak(engine: Engine, format: str) -> float | None:
    """Return operations per second of a kernel with only the instruction, on all cores; None without a kernel."""
    return engine._kernels.peak(FORMAT_CODES[FORMATS[format]]) if isinstance(engine, NativeEngine) else None


def weights_per_token(model: triform.Model) -> int:
    """Count the weights of all linears, used by every token; a token reads only one row of a table."""
    return sum(math.prod(weight.shape) for weight in linear_weights(model))


def bytes_per_step(model: triform.Model) -> int:
    """Return the bytes of the weights of all linears, read in a decoding step, in the stored format."""
    return sum(_size(weight) for weight in linear_weights(model))


def _size(parameter: Parameter) -> int:
    return StoredTensor.empty(parameter.format, *parameter.shape).nbytes
