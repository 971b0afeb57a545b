"""Parameters as `torch.nn.Parameter`, for torch's optimisers; and low-rank changes of them (LoRA)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from triform.engines.formats import Format, StoredTensor

DTYPES = {Format.FLOAT32: torch.float32, Format.FLOAT16: torch.float16, Format.BFLOAT16: torch.bfloat16}


@dataclass(frozen=True, eq=False, slots=True)
class TorchParameter:
    """A tensor on a device. Always a copy: training writes into the tensor, and a mapped file is read-only."""

    tensor: torch.nn.Parameter
    format: Format
    padding: int | None = None
    """The row of a table whose lookups give no gradient; torch's `padding_idx`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.tensor.shape)

    def float32(self) -> torch.Tensor:
        """Convert the numbers to float32, of the same shape."""
        return self.tensor.float()

    def lookup(self, ids: torch.Tensor) -> torch.Tensor:
        """Look rows of a table up: (T,) and (rows, D) → (T, D)."""
        return functional.embedding(ids, self.tensor, self.padding).float()

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None, *, is_training: bool) -> torch.Tensor:
        """Compute x·weightᵀ + bias: (T, in) and (out, in) → (T, out)."""
        return functional.linear(x, self.float32(), bias)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LowRankParameter(TorchParameter):
    """A frozen weight of a linear and a trained low-rank change: W + scale·B·A.

    Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """

    a: torch.nn.Parameter
    """(r, in)"""
    b: torch.nn.Parameter
    """(out, r)"""
    scale: float
    dropout: float
    """Dropout rate of A's input while training."""

    def float32(self) -> torch.Tensor:
        """Compute the sum W + scale·B·A in float32, of shape (out, in)."""
        return self.tensor.float() + self.scale * self.b @ self.a

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None, *, is_training: bool) -> torch.Tensor:
        """Compute x·Wᵀ and the change apart, without a gradient of the whole weight: (T, in) → (T, out)."""
        y = functional.linear(x, self.tensor.float(), bias)
        kept = functional.dropout(x, self.dropout, training=is_training)
        return y + self.scale * functional.linear(functional.linear(kept, self.a), self.b)


def to_torch(stored: StoredTensor, device: torch.device) -> torch.Tensor:
    """Copy a stored float tensor of any shape to a device, in the same format."""
    # torch reads the bits of a bfloat16 from int16, not from uint16.
    array = stored.array.view(np.int16) if stored.format == Format.BFLOAT16 else stored.array
    tensor = torch.tensor(array, device=device)
    return tensor.view(torch.bfloat16) if stored.format == Format.BFLOAT16 else tensor


def to_stored(tensor: torch.Tensor, format: Format) -> StoredTensor:
    """Copy a tensor from its device to a stored tensor in `format`, of the same shape. Undoes `to_torch`."""
    tensor = tensor.detach().cpu().contiguous()
    if format == Format.BFLOAT16:
        return StoredTensor(tensor.view(torch.int16).numpy().view(np.uint16), format)
    return StoredTensor(tensor.numpy(), format)
