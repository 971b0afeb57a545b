"""The torch engine: PyTorch, for GPUs and gradients."""

from triform.engines.torch.engine import TorchEngine

__all__ = ["TorchEngine"]
