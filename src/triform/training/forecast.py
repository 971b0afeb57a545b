"""What memory a step will take, before it is taken."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from triform import spec
from triform.model import Model

FLOAT = 4
"""Bytes of a float32, in which parameters, gradients, moments and activations are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Bytes, by what they are for."""

    parameters: int
    gradients: int
    moments: int
    """The two that AdamW keeps of each gradient."""
    activations: int
    """What is kept of one micro batch until its gradients are known: an estimate, since kernels keep more or less."""
    logits: int
    """Those of a language head, their softmax and its gradient."""

    @property
    def total(self) -> int:
        """All at once, which is the peak."""
        return self.parameters + self.gradients + self.moments + self.activations + self.logits


def forecast(
    model: Model, trained: Mapping[str, torch.nn.Parameter], num_tokens: int, *, recompute: bool = False
) -> Forecast:
    """The memory of a step.

    Arguments:
        model: what is trained.
        trained: those of its parameters that change.
        num_tokens: that go through the model at once; an encoder-decoder's are counted for both of its stacks.
        recompute: whether a block keeps its input alone.
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
    """Numbers that are kept of each token."""
    hidden_size = stack.embedding.hidden_size
    blocks = [sum(_kept(residual, hidden_size) for residual in block) for block in stack.blocks]
    if recompute:
        return len(blocks) * hidden_size + max(blocks)
    return 2 * hidden_size + sum(blocks)


def _kept(residual: spec.Residual, hidden_size: int) -> int:
    """Of a residual step: its sum, where norms begin, and what its core keeps."""
    norms = (residual.pre_norm, residual.post_norm, residual.residual_norm)
    kept = hidden_size * sum(norm is not None for norm in norms)
    match residual.core:
        case spec.SelfAttention(heads=heads) | spec.CrossAttention(heads=heads):
            # What is projected; queries, keys and values; the context, as attention and as the last linear keep it.
            width = heads.head_dim * (3 * heads.num_attention_heads + 2 * heads.num_key_value_heads)
            return kept + hidden_size + width
        case feed_forward:
            # The inner states, before and after the activation.
            return kept + hidden_size + 2 * feed_forward.inner_width
