"""Parameters as torch knows them, so that its optimisers can be handed them."""

from dataclasses import dataclass

import numpy as np
import torch

from triform.engines.formats import Format, StoredTensor

DTYPES = {Format.FLOAT32: torch.float32, Format.FLOAT16: torch.float16, Format.BFLOAT16: torch.bfloat16}


@dataclass(frozen=True, eq=False, slots=True)
class TorchParameter:
    """A tensor on a device. Always a copy: training writes into it, and a mapped file is for reading only."""

    tensor: torch.nn.Parameter
    format: Format

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.tensor.shape)

    def float32(self) -> torch.Tensor:
        """All numbers as float32."""
        return self.tensor.float()


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
