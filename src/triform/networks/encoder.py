"""Encoder-only: every token sees the whole sequence. Devlin et al. 2018."""

from triform import spec
from triform.engines import Hook, Integers
from triform.inputs import Batch
from triform.networks.heads import build_head, with_head
from triform.networks.output import Output
from triform.networks.scope import Scope
from triform.networks.stack import Stack


class Encoder:
    """A bidirectional stack, and a head."""

    def __init__(self, scope: Scope, form: spec.Encoder, head: spec.Head | None) -> None:
        self._stack = Stack(scope, form.stack)
        self._head = build_head(scope, head, form.stack, self._stack.word)

    def __call__(
        self,
        batch: Batch,
        *,
        hidden_states: bool = False,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
    ) -> Output:
        """Run the encoder: Batch → Output."""
        states, layers = self._stack(batch, hook=hook, hidden_states=hidden_states)
        return with_head(self._head, states, batch.ids, batch.spans, logits_at=logits_at, hidden_states=layers)
