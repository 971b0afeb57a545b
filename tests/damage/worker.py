"""A worker process tries damaged checkpoints in turn; a checkpoint that kills the worker is only a finding.

Run as `python -m tests.damage.worker`: a line of JSON in, the fields of `Sound`, a line of JSON out.
"""

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import triform
from triform.weights.convert import convert

MEMORY = 200 * 2**20
"""Bytes allowed above the need of sound checkpoints; a larger allocation fails."""


def is_finite(answer: Any) -> bool:
    """Return whether an answer has only finite numbers."""
    if isinstance(answer, Mapping):
        return all(map(is_finite, answer.values()))
    if isinstance(answer, list | tuple):
        return all(map(is_finite, answer))
    if isinstance(answer, float | np.ndarray):
        return bool(np.all(np.isfinite(answer)))
    return True


def ask(folder: str, task: str, given: Any, options: Mapping[str, Any], adapter: str | None) -> Any:
    """Load a checkpoint and run the task, or convert the checkpoint."""
    if task == "convert":
        return convert(folder, overwrite=True).left_out
    return triform.pipeline(task, folder, adapter=None if adapter is None else Path(folder, adapter), **options)(given)


def attempt(**sound: Any) -> dict[str, Any]:
    """Try a checkpoint; return the outcome, the message and the processor time in seconds."""
    begin = time.process_time()
    try:
        answer = ask(**sound)
        outcome, message = ("answered", "") if is_finite(answer) else ("NaN or infinity", repr(answer)[:300])
    except triform.TriformError as error:
        outcome, message = "refused", f"{type(error).__name__}: {error}"
    except BaseException as error:  # a panic of a Rust library derives from BaseException
        outcome, message = f"{type(error).__name__}", "".join(traceback.format_exception(error, limit=-6))[-3000:]
    return {"outcome": outcome, "message": message, "seconds": time.process_time() - begin}


def limit_memory() -> None:
    """Limit every attempt to `MEMORY` bytes beyond the present size of the process."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    # Files mapped for reading do not count.
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main() -> None:
    """Answer every line of standard input; an empty line ends the warm-up."""
    for line in sys.stdin:
        if not line.strip():
            limit_memory()
            continue
        print(json.dumps(attempt(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
