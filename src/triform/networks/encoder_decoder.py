"""Encoder-decoder: a causal stack with cross-attention to an encoder. Vaswani et al. 2017."""

from dataclasses import replace

from triform import spec
from triform.engines import Hook, Integers
from triform.errors import InputError
from triform.inputs import Batch
from triform.networks.context import Cache, EncoderMemory, Memory
from triform.networks.heads import build_head, with_head
from triform.networks.output import EncoderOutput, Output
from triform.networks.scope import Scope
from triform.networks.stack import Stack


class EncoderDecoder:
    """A bidirectional stack, a causal stack with cross-attention, and a head."""

    def __init__(self, scope: Scope, form: spec.EncoderDecoder, head: spec.Head | None) -> None:
        self._engine = scope.engine
        self._encoder = Stack(scope.of_stack("encoder"), form.encoder)
        word = self._encoder.word if form.shares_embedding else None
        self._decoder = Stack(scope.of_stack("decoder"), form.decoder, word=word)
        self._head = build_head(scope, head, form.decoder, self._decoder.word)

    def encode(self, source: Batch, *, hidden_states: bool = False, hook: Hook | None = None) -> EncoderOutput:
        """Run the encoder alone."""
        states, layers = self._encoder(source, hook=hook, hidden_states=hidden_states)
        memory = EncoderMemory(self._engine, states, source.spans)
        return EncoderOutput(last_hidden_state=states, spans=source.spans, hidden_states=layers, memory=memory)

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
        """Run both stacks: source or encoder states, and the ids fed to the decoder → Output.

        Sources and targets pair up. The head takes the decoder's rows for the target's tokens, or for the tokens
        `head_ids`, (T,), where they are given.
        """
        if isinstance(source, Batch):
            source = self.encode(source, hidden_states=hidden_states, hook=hook)
        if len(source.spans) != len(target):
            raise InputError(
                f"source and target must pair up: got {len(source.spans)} sources and {len(target)} targets."
            )
        output = self.decode(
            target,
            memory=source.memory,
            cache=cache,
            hidden_states=hidden_states,
            logits_at=logits_at,
            hook=hook,
            head_ids=head_ids,
        )
        return replace(output, encoder=source)

    def decode(
        self,
        target: Batch,
        *,
        memory: Memory | None,
        cache: Cache | None = None,
        hidden_states: bool = False,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
        head_ids: Integers | None = None,
    ) -> Output:
        """Run the decoder over the cross keys and values of `memory`: (T,) ids → Output, logits (len(logits_at), V)."""
        states, layers = self._decoder(target, cache=cache, memory=memory, hook=hook, hidden_states=hidden_states)
        ids = target.ids if head_ids is None else head_ids
        return with_head(self._head, states, ids, target.spans, logits_at=logits_at, hidden_states=layers)

    def check_input(self, batch: Batch) -> None:
        """Refuse sources of a generation with ids outside the vocabulary, or longer than the context.

        Raises:
            InputError: naming the sequence and the token.
        """
        self._encoder.check_input(batch, batch.lengths)
