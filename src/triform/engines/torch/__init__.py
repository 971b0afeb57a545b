"""The operations in PyTorch: for GPUs, and for gradients."""

from triform.engines.torch.engine import TorchEngine

__all__ = ["TorchEngine"]
