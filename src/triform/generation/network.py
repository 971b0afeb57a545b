"""The interface of networks for generation: `decode`, and `encode` for an encoder-decoder."""

from typing import Protocol

from triform.engines import Hook, Integers
from triform.inputs import Batch
from triform.networks import Cache, EncoderOutput, Memory, Output


class GenerativeDecoder(Protocol):
    """A causal stack with a language head: a decoder-only network, or the decoder of an encoder-decoder."""

    def decode(
        self,
        target: Batch,
        *,
        memory: Memory | None,
        cache: Cache | None = None,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
    ) -> Output:
        """Compute new tokens behind the cached tokens: (T,) ids → logits (len(logits_at), V)."""


class SourceEncoder(Protocol):
    """The encoder of an encoder-decoder."""

    def encode(self, source: Batch, *, hidden_states: bool = False, hook: Hook | None = None) -> EncoderOutput:
        """Encode sources: (S,) ids → states (S, D)."""
