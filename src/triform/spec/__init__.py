"""The spec describes a model: frozen dataclasses in the terms of the field; no arrays, no engine.

Every transformer here is a stack of blocks, every block a tuple of residual steps, and one step covers them all:

    x ← residual_norm(x + post_norm(core(pre_norm(x))))
"""

from triform.spec.attention import Bidirectional, Causal, CrossAttention, Heads, Mask, ScoreRule, SelfAttention
from triform.spec.block import Block, Core, Residual
from triform.spec.embedding import Embedding, TokenEmbedding
from triform.spec.feed_forward import Activation, AnyFeedForward, FeedForward, GatedFeedForward
from triform.spec.head import Head, LanguageHead, Problem, SequenceHead, SpanHead, TokenHead, Transform
from triform.spec.model import Decoder, Encoder, EncoderDecoder, Form, Model, ShiftTokensRight, Stack
from triform.spec.norm import LayerNorm, Norm, RMSNorm
from triform.spec.pooling import LastExcept, LastOf, Pooling
from triform.spec.position import (
    AttentionPosition,
    Learned,
    LinearScaling,
    Llama3Scaling,
    RelativeBias,
    Rotary,
    Sinusoidal,
)

__all__ = [
    "Activation",
    "AnyFeedForward",
    "AttentionPosition",
    "Bidirectional",
    "Block",
    "Causal",
    "Core",
    "CrossAttention",
    "Decoder",
    "Embedding",
    "Encoder",
    "EncoderDecoder",
    "FeedForward",
    "Form",
    "GatedFeedForward",
    "Head",
    "Heads",
    "LanguageHead",
    "LastExcept",
    "LastOf",
    "LayerNorm",
    "Learned",
    "LinearScaling",
    "Llama3Scaling",
    "Mask",
    "Model",
    "Norm",
    "Pooling",
    "Problem",
    "RMSNorm",
    "RelativeBias",
    "Residual",
    "Rotary",
    "ScoreRule",
    "SelfAttention",
    "SequenceHead",
    "ShiftTokensRight",
    "Sinusoidal",
    "SpanHead",
    "Stack",
    "TokenEmbedding",
    "TokenHead",
    "Transform",
]
