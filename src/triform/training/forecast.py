"""Memory forecast: bytes of a training step, estimated from the spec."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from triform import spec
from triform.model import Model

FLOAT = 4
"""Bytes of a float32, the type of parameters, gradients, moments and activations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Bytes of a step, by purpose."""

    parameters: int
    gradients: int
    moments: int
    """Two moments that AdamW keeps for each gradient."""
    activations: int
    """Activations of one micro batch that the backward pass needs: an estimate, because kernels keep more or less."""
    logits: int
    """Logits of a language head, their softmax and its gradient."""

    @property
    def total(self) -> int:
        """Peak: all of them at once."""
        return self.parameters + self.gradients + self.moments + self.activations + self.logits


def forecast_memory(
    model: Model, trained: Mapping[str, torch.nn.Parameter], num_tokens: int, *, recompute: bool = False
) -> Forecast:
    """Estimate the memory of a step.

    Arguments:
        model: the model.
        trained: parameters that are trained.
        num_tokens: tokens that go through the model at once; both stacks of an encoder-decoder are counted with all.
        recompute: whether a block keeps only its input (activation checkpointing).
    """
    num_trained = sum(parameter.numel() for parameter in trained.values())
    form = model.spec.form
    stacks = [form.encoder, form.decoder] if isinstance(form, spec.EncoderDecoder) else [form.stack]
    numbers = sum(_kept_by_stack(stack, recompute=recompute) for stack in stacks)
    is_language = isinstance(model.spec.head, spec.LanguageHead)
    vocab_size = model.spec.output_stack.vocab_size if is_language else 0
    return Forecast(
        parameters=FLOAT * model.num_parameters,
        gradients=FLOAT * num_trained,
        moments=2 * FLOAT * num_trained,
        activations=FLOAT * numbers * num_tokens,
        logits=3 * FLOAT * vocab_size * num_tokens,
    )


def _kept_by_stack(stack: spec.Stack, *, recompute: bool) -> int:
    """Count the scalars kept by a stack for each token."""
    hidden_size = stack.embedding.hidden_size
    blocks = [sum(_kept(residual, hidden_size) for residual in block) for block in stack.blocks]
    if recompute:
        return len(blocks) * hidden_size + max(blocks)
    return 2 * hidden_size + sum(blocks)


def _kept(residual: spec.Residual, hidden_size: int) -> int:
    """Count the scalars kept by a residual step for each token: inputs of norms, and the core's."""
    norms = (residual.pre_norm, residual.post_norm, residual.residual_norm)
    kept = hidden_size * sum(norm is not None for norm in norms)
    match residual.core:
        case spec.SelfAttention(heads=heads) | spec.CrossAttention(heads=heads):
            # Input of the projections; queries, keys and values; context, kept by attention and by the last linear.
            width = heads.head_dim * (3 * heads.num_attention_heads + 2 * heads.num_key_value_heads)
            return kept + hidden_size + width
        case feed_forward:
            # The inner states, before and after the activation.
            return kept + hidden_size + 2 * feed_forward.inner_width
