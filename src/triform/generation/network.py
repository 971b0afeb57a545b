"""The two calls that generation makes of a network, whichever form it has."""

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
        """Read tokens behind those in the cache: (T,) ids → logits (len(logits_at), V)."""


class SourceEncoder(Protocol):
    """The encoder of an encoder-decoder."""

    def encode(self, source: Batch, *, hidden_states: bool = False, hook: Hook | None = None) -> EncoderOutput:
        """Read sources: (S,) ids → states (S, D)."""
