"""Parameters as torch knows them, so that its optimisers can be handed them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from triform.engines.formats import Format, StoredTensor

DTYPES = {Format.FLOAT32: torch.float32, Format.FLOAT16: torch.float16, Format.BFLOAT16: torch.bfloat16}


@dataclass(frozen=True, eq=False, slots=True)
class TorchParameter:
    """A tensor on a device. Always a copy: training writes into it, and a mapped file is for reading only."""

    tensor: torch.nn.Parameter
    format: Format
    padding: int | None = None
    """The row of a table that has no gradient from being looked up."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.tensor.shape)

    def float32(self) -> torch.Tensor:
        """All numbers as float32."""
        return self.tensor.float()

    def lookup(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows of a table: (T,) and (rows, D) → (T, D)."""
        return functional.embedding(ids, self.tensor, self.padding).float()

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None, *, is_training: bool) -> torch.Tensor:
        """x·weightᵀ + bias: (T, in) and (out, in) → (T, out)."""
        return functional.linear(x, self.float32(), bias)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LowRankParameter(TorchParameter):
    """The weight of a linear that stays what it is, and a change that is trained: W + scale·B·A.

    Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """

    a: torch.nn.Parameter
    """(r, in)"""
    b: torch.nn.Parameter
    """(out, r)"""
    scale: float
    dropout: float
    """Of what A is given, while training."""

    def float32(self) -> torch.Tensor:
        """Both as one, in float32."""
        return self.tensor.float() + self.scale * self.b @ self.a

    def linear(self, x: torch.Tensor, bias: torch.Tensor | None, *, is_training: bool) -> torch.Tensor:
        """Both apart, which needs no gradient of the whole weight."""
        y = functional.linear(x, self.tensor.float(), bias)
        kept = functional.dropout(x, self.dropout, training=is_training)
        return y + self.scale * functional.linear(functional.linear(kept, self.a), self.b)


def to_torch(stored: StoredTensor, device: torch.device) -> torch.Tensor:
    """A stored tensor on a device, in its own format."""
    # torch has no uint16 to take the bits of a bfloat16 from, but int16.
    array = stored.array.view(np.int16) if stored.format is Format.BFLOAT16 else stored.array
    tensor = torch.tensor(array, device=device)
    return tensor.view(torch.bfloat16) if stored.format is Format.BFLOAT16 else tensor


def to_stored(tensor: torch.Tensor, format: Format) -> StoredTensor:
    """The inverse."""
    tensor = tensor.detach().cpu().contiguous()
    if format is Format.BFLOAT16:
        return StoredTensor(tensor.view(torch.int16).numpy().view(np.uint16), format)
    return StoredTensor(tensor.numpy(), format)
