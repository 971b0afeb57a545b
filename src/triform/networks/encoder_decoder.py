"""Encoder-decoder: a causal stack that also sees the states of an encoder. Vaswani et al. 2017."""

from triform import spec
from triform.engines import Hook, Integers
from triform.errors import InputError
from triform.inputs import Batch
from triform.networks.context import Cache, Memory
from triform.networks.heads import build_head, with_head
from triform.networks.output import EncoderOutput, Output
from triform.networks.scope import Scope
from triform.networks.stack import Stack


class EncoderDecoder:
    """A bidirectional stack, a causal one with cross-attention, and a head."""

    def __init__(self, scope: Scope, form: spec.EncoderDecoder, head: spec.Head | None) -> None:
        self._encoder = Stack(scope.of_stack("encoder"), form.encoder)
        word = self._encoder.word if form.shares_embedding else None
        self._decoder = Stack(scope.of_stack("decoder"), form.decoder, word=word)
        self._head = build_head(scope, head, form.decoder, self._decoder.word)

    def encode(self, source: Batch, *, hidden_states: bool = False, hook: Hook | None = None) -> EncoderOutput:
        """The encoder alone."""
        states, layers = self._encoder(source, hook=hook, hidden_states=hidden_states)
        return EncoderOutput(
            last_hidden_state=states, spans=source.spans, hidden_states=layers, memory=Memory(states, source.spans)
        )

    def __call__(
        self,
        source: Batch | EncoderOutput,
        target: Batch,
        *,
        cache: Cache | None = None,
        hidden_states: bool = False,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
        head_ids: Integers | None = None,
    ) -> Output:
        """Source, or its states, and the decoder's ids as fed → Output, with one target for each source.

        To the head, the decoder's rows stand for the target's tokens, or else for those of `head_ids`.
        """
        if isinstance(source, Batch):
            source = self.encode(source, hidden_states=hidden_states, hook=hook)
        if len(source.spans) != len(target):
            raise InputError(
                f"source and target must pair up: got {len(source.spans)} sources and {len(target)} targets."
            )
        states, layers = self._decoder(
            target, cache=cache, memory=source.memory, hook=hook, hidden_states=hidden_states
        )
        ids = target.ids if head_ids is None else head_ids
        return with_head(
            self._head, states, ids, target.spans, logits_at=logits_at, hidden_states=layers, encoder=source
        )
