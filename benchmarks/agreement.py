"""Before anything is timed, both sides must have done the same work."""

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-3
"""Far above rounding in float32, far below any real difference."""


def check_close(ours: ArrayLike, theirs: ArrayLike) -> str:
    """Stop unless two arrays agree; else say how well."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise SystemExit(f"The answers differ in shape: Triform {ours.shape}, transformers {theirs.shape}.")
    difference = float(np.abs(ours - theirs).max())
    if not difference < TOLERANCE:
        raise SystemExit(f"The answers differ by {difference:.1e}; nothing was measured.")
    return f"greatest difference {difference:.1e}"


def check_tokens(ours: list[list[int]], theirs: list[list[int]], num_tokens: int) -> str:
    """Stop unless both sides made `num_tokens` for each sequence; say where they first differ.

    A difference is no error by itself: where two logits nearly tie, rounding chooses, and the texts part ways.
    """
    lengths = {len(sequence) for sequence in (*ours, *theirs)}
    if lengths != {num_tokens} or len(ours) != len(theirs):
        raise SystemExit(f"Expected {num_tokens} new tokens for each sequence, got {sorted(lengths)}.")
    different = np.argwhere(np.array(ours) != np.array(theirs))
    if not len(different):
        return f"all {len(ours) * num_tokens} tokens equal, {len(set(np.ravel(ours).tolist()))} of them distinct"
    parted = {int(sequence) for sequence, _ in different}
    step = int(different[:, 1].min())
    return f"{len(parted)} of {len(ours)} sequences differ, the first at step {step}"
