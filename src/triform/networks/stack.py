"""An embedding, blocks and a final norm: the body of every form."""

from collections.abc import Sequence
from functools import partial

from triform import spec
from triform.engines import Array, Hook, Integers
from triform.errors import InputError
from triform.inputs import Batch
from triform.networks.context import Cache, ForwardContext, Memory
from triform.networks.layers.embedding import build_embedding, check_range
from triform.networks.layers.norm import build_norm
from triform.networks.layers.residual import Residual
from triform.networks.output import HiddenStates
from triform.networks.scope import Scope


class Stack:
    """A batch → last hidden states."""

    def __init__(self, scope: Scope, stack: spec.Stack, *, word: Scope | None = None) -> None:
        self.spec = stack
        hidden_size = stack.embedding.hidden_size
        self._engine = scope.engine
        self._name = scope.name
        self.word = word or scope / "embedding" / "word"
        self._embedding = build_embedding(scope / "embedding", stack.embedding, word=word)
        self._blocks = [
            [Residual(scope / "blocks" / str(layer), residual, hidden_size, layer=layer) for residual in block]
            for layer, block in enumerate(stack.blocks)
        ]
        self._final_norm = build_norm(scope / "final_norm", stack.final_norm, hidden_size)

    @property
    def hidden_state_names(self) -> list[str]:
        """The trace points of the embedding and of each block; after the last block, of the final norm."""
        blocks = [f"{self._name}blocks.{layer}" for layer in range(len(self._blocks) - 1)]
        return [f"{self._name}embedding", *blocks, f"{self._name}last_hidden_state"]

    def __call__(
        self,
        batch: Batch,
        *,
        cache: Cache | None = None,
        memory: Memory | None = None,
        hook: Hook | None = None,
        hidden_states: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Run a batch of T rows → (T, D), and the hidden states of every layer if asked for.

        With a cache each sequence of the batch continues where the cache ends.

        Raises:
            InputError: the batch is not what the embedding reads, or a sequence is too long.
        """
        recorder = HiddenStates(self.hidden_state_names, hook) if hidden_states else None
        context = ForwardContext(
            batch.spans,
            stack=self._name,
            positions=batch.positions,
            cache=cache,
            memory=memory,
            hook=recorder or hook,
        )
        self.check_input(batch, context.key_lengths)
        states = self._run(batch, context)
        context.commit_cache()
        return states, recorder.collect() if recorder else None

    def _run(self, batch: Batch, context: ForwardContext) -> Array:
        x = self._embedding(batch, context)
        for layer, block in enumerate(self._blocks):
            if self._engine.keeps(self.spec.block_dropout):
                x = self._engine.recomputed(partial(_through, block, context), x)
            x = context.apply_hook(f"{self._name}blocks.{layer}", x)
        x = self._engine.dropout(self._final_norm(x), self.spec.dropout)
        return context.apply_hook(f"{self._name}last_hidden_state", x)

    def check_input(self, batch: Batch, lengths: Integers) -> None:
        """Refuse a batch with input unfit for the embedding, beyond the context, or with positions without an effect.

        Arguments:
            batch: the rows of a pass.
            lengths: (B,) rows of each sequence, with the cached rows of earlier passes.

        Raises:
            InputError: naming the sequence and what does not fit.
        """
        self._embedding.check(batch)
        limit = self.spec.context_length
        if limit is not None and lengths.max() > limit:
            sequence = int(lengths.argmax())
            raise InputError(
                f"Sequence {sequence} has {lengths[sequence]} tokens, more than the model's context of {limit}. "
                'Shorten it, or let a task cut it with long_input="truncate".'
            )
        if len(batch.positions):
            self._check_positions(batch)

    def _check_positions(self, batch: Batch) -> None:
        """Refuse positions beyond the context, and positions for attention that counts distances between rows.

        Raises:
            InputError: naming the first position that does not fit, or the reason.
        """
        cores = [residual.core for block in self.spec.blocks for residual in block]
        attentions = [core for core in cores if isinstance(core, spec.SelfAttention)]
        if not all(isinstance(attention.position, spec.Rotary | None) for attention in attentions):
            raise InputError(
                "positions: this model's attention counts distances between rows, so it would ignore them. "
                "Leave positions out of the batch."
            )
        limit = self.spec.context_length
        check_range("position", batch, batch.positions, 2**31 if limit is None else limit, "the context")


def _through(block: Sequence[Residual], context: ForwardContext, x: Array) -> Array:
    for residual in block:
        x = residual(x, context)
    return x
