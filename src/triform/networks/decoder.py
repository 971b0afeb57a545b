"""Decoder-only: every token sees the tokens before. Radford et al. 2018."""

from triform import spec
from triform.engines import Hook, Integers
from triform.inputs import Batch
from triform.networks.context import Cache, Memory
from triform.networks.heads import build_head, with_head
from triform.networks.output import Output
from triform.networks.scope import Scope
from triform.networks.stack import Stack


class Decoder:
    """A causal stack, and a head."""

    def __init__(self, scope: Scope, form: spec.Decoder, head: spec.Head | None) -> None:
        self._stack = Stack(scope, form.stack)
        self._head = build_head(scope, head, form.stack, self._stack.word)

    def __call__(
        self,
        batch: Batch,
        *,
        cache: Cache | None = None,
        hidden_states: bool = False,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
    ) -> Output:
        """Run the decoder: Batch → Output. With a cache, sequence b continues sequence b of the cache."""
        states, layers = self._stack(batch, cache=cache, hook=hook, hidden_states=hidden_states)
        return with_head(self._head, states, batch.ids, batch.spans, logits_at=logits_at, hidden_states=layers)

    def decode(
        self,
        target: Batch,
        *,
        memory: Memory | None,
        cache: Cache | None = None,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
    ) -> Output:
        """Run the network for generation: (T,) ids → Output, logits (len(logits_at), V). `memory` must be None."""
        assert memory is None, "a decoder-only network has no cross-attention"
        return self(target, cache=cache, logits_at=logits_at, hook=hook)

    def check_input(self, batch: Batch) -> None:
        """Refuse prompts of a generation with ids outside the vocabulary, or longer than the context.

        Raises:
            InputError: naming the sequence and the token.
        """
        self._stack.check_input(batch, batch.lengths)
