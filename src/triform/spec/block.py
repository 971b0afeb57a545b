"""A block: residual steps, one after another."""

from dataclasses import dataclass

from triform.spec.attention import CrossAttention, SelfAttention
from triform.spec.feed_forward import AnyFeedForward
from triform.spec.norm import Norm

__all__ = ["Block", "Core", "Residual"]

Core = SelfAttention | CrossAttention | AnyFeedForward


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual:
    """x ← residual_norm(x + post_norm(core(pre_norm(x)))), with the identity for an absent norm.

    `pre_norm` is the arrangement of T5 and Llama (Xiong et al. 2020). BERT and Vaswani et al. 2017 have
    `residual_norm`, which papers call post-norm. OLMo 2 has `post_norm`, and Gemma 2 `pre_norm` and `post_norm`.
    """

    core: Core
    pre_norm: Norm | None = None
    post_norm: Norm | None = None
    residual_norm: Norm | None = None
    dropout: float = 0.0
    """Dropout rate of the core's output, before it is added, while training. Srivastava et al. 2014."""


Block = tuple[Residual, ...]
