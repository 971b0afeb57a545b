"""Before anything is timed, all sides must have done the same work."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-3
"""Far above rounding in float32, far below any real difference."""

LEAST_COSINE = {"int8": 0.95, "int4": 0.85}
"""Between vectors of an integer format and of float32.

Far below the effect of rounding in two good runtimes (0.99 and more in int8), since runtimes round at different
points, and random weights magnify the error; far above the cosine of answers to different questions.
"""


def check_close(name: str, given: ArrayLike, reference: ArrayLike, format: str = "float32") -> str:
    """Stop unless a side's vectors (…, size) agree with the reference; otherwise return the deviation as text.

    In float32 the numbers must agree; in other formats the least cosine counts.
    """
    given, reference = np.asarray(given), np.asarray(reference)
    if given.shape != reference.shape:
        raise SystemExit(f"{name}: answers of shape {given.shape} where {reference.shape} was expected.")
    if format == "float32":
        difference = float(np.abs(given - reference).max())
        if not difference < TOLERANCE:
            raise SystemExit(f"{name}: the answers are off by {difference:.1e}; nothing was measured.")
        return f"{name} {difference:.1e}"
    norms = np.linalg.norm(given, axis=-1) * np.linalg.norm(reference, axis=-1)
    cosine = float(((given * reference).sum(-1) / norms).min())
    if not cosine >= LEAST_COSINE[format]:
        raise SystemExit(
            f"{name}: a cosine of {cosine:.3f} with float32, at least {LEAST_COSINE[format]} expected; nothing was "
            "measured."
        )
    return f"{name} {cosine:.4f}"


def check_tokens(name: str, given: Sequence[list[int]], reference: Sequence[list[int]], num_tokens: int) -> str:
    """Stop unless each sequence has `num_tokens` and half of the sequences begin as the reference does.

    A later difference does not count: after a near tie of two logits, rounding may make texts diverge. Random
    weights tie often.
    """
    lengths = {len(sequence) for sequence in given}
    if lengths != {num_tokens} or len(given) != len(reference):
        raise SystemExit(f"{name}: expected {num_tokens} new tokens for each sequence, got {sorted(lengths)}.")
    first = sum(sequence[0] == other[0] for sequence, other in zip(given, reference, strict=True))
    if 2 * first < len(given):
        raise SystemExit(f"{name}: only {first} of {len(given)} answers begin as in float32; nothing was measured.")
    same = float((np.array(given) == np.array(reference)).mean())
    return f"{name} {first} of {len(given)} first tokens and {100 * same:.0f} % of all"
