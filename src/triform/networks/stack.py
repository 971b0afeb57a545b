"""An embedding, blocks and a final norm: the body of every form."""

from collections.abc import Sequence
from functools import partial

from triform import spec
from triform.engines import Array, Hook, Integers
from triform.errors import InputError
from triform.inputs import Batch
from triform.networks.context import Cache, ForwardContext, Memory
from triform.networks.layers.embedding import Embedding
from triform.networks.layers.norm import build_norm
from triform.networks.layers.residual import Residual
from triform.networks.output import HiddenStates
from triform.networks.scope import Scope


class Stack:
    """The body of a form: ids → last hidden states."""

    def __init__(self, scope: Scope, stack: spec.Stack, *, word: Scope | None = None) -> None:
        self.spec = stack
        hidden_size = stack.embedding.hidden_size
        self._engine = scope.engine
        self._name = scope.name
        self.word = word or scope / "embedding" / "word"
        self._embedding = Embedding(scope / "embedding", stack.embedding, word=word)
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
        """Run the stack: (T,) ids → (T, D), and the hidden states of every layer if asked for.

        With a cache each sequence of the batch continues the sequence in the cache.

        Raises:
            InputError: an id outside the vocabulary, a segment that the model lacks, or too long a sequence.
        """
        recorder = HiddenStates(self.hidden_state_names, hook) if hidden_states else None
        context = ForwardContext(batch.spans, stack=self._name, cache=cache, memory=memory, hook=recorder or hook)
        self.check_input(batch, context.key_lengths)
        states = self._run(batch, context)
        context.commit_cache()
        return states, recorder.collect() if recorder else None

    def _run(self, batch: Batch, context: ForwardContext) -> Array:
        x = self._embedding(batch.ids, batch.segment_ids, context)
        for layer, block in enumerate(self._blocks):
            if self._engine.keeps(self.spec.block_dropout):
                x = self._engine.recomputed(partial(_through, block, context), x)
            x = context.apply_hook(f"{self._name}blocks.{layer}", x)
        x = self._engine.dropout(self._final_norm(x), self.spec.dropout)
        return context.apply_hook(f"{self._name}last_hidden_state", x)

    def check_input(self, batch: Batch, lengths: Integers) -> None:
        """Refuse ids that the tables have no row for, and sequences longer than the context.

        Arguments:
            batch: the tokens of a pass.
            lengths: (B,) tokens of each sequence, those of earlier passes included.

        Raises:
            InputError: naming the sequence and the token.
        """
        embedding, limit = self.spec.embedding, self.spec.context_length
        _check_range("id", batch, batch.ids, embedding.vocab_size, "the vocabulary")
        if embedding.num_segments is not None:
            _check_range("segment id", batch, batch.segment_ids, embedding.num_segments, "the segment table")
        if limit is not None and lengths.max() > limit:
            sequence = int(lengths.argmax())
            raise InputError(
                f"Sequence {sequence} has {lengths[sequence]} tokens, more than the model's context of {limit}. "
                'Shorten it, or let a task cut it with long_input="truncate".'
            )


def _through(block: Sequence[Residual], context: ForwardContext, x: Array) -> Array:
    for residual in block:
        x = residual(x, context)
    return x


def _check_range(what: str, batch: Batch, values: Array, size: int, table: str) -> None:
    if values.min() < 0 or values.max() >= size:
        row = int(((values < 0) | (values >= size)).argmax())
        sequence = int(batch.offsets.searchsorted(row, side="right")) - 1
        place = row - int(batch.offsets[sequence])
        raise InputError(
            f"Sequence {sequence}, token {place}: {what} {values[row]} is outside {table} of {size} entries "
            f"(0 to {size - 1}). Was it made with this model's tokenizer?"
        )
