"""Dropout. Srivastava et al. 2014."""

import torch

SHARES = 2**16
"""On a CPU rates are rounded to whole numbers of these."""


def drop(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Each number nought with probability `rate`, or else divided by 1 − rate."""
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x, rate)
    # torch draws 64 bits for each number, one after the other: a twentieth of a step. A quarter of them will do.
    dropped = min(round(rate * SHARES), SHARES - 1)
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = drawn[: x.numel()].view(x.shape) >= dropped - SHARES // 2
    return x * kept.to(x.dtype).mul_(1 / (1 - rate))
