"""Sequences that a decoder lengthens. Knows how to come to the next logits, not how a token is chosen of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import numpy as np

from triform import spec
from triform.engines import Array, Engine, Integers, Spans
from triform.errors import InputError, NonFiniteError, WrongTaskError
from triform.generation.cache import KeyValueCache
from triform.generation.config import ContextEnd, GenerationConfig
from triform.generation.sequence import GrowingSequence
from triform.generation.session import Session, common_beginning
from triform.inputs import Batch
from triform.networks import Decoder, EncoderDecoder, EncoderOutput, Network


class Decoding:
    """A network, the cache of its decoder, and what that sees of an encoder.

    Raises:
        WrongTaskError: the model has no language head, or is no decoder.
        InputError: the caller's limit leads beyond the context, or a session that this call cannot have.
    """

    def __init__(
        self,
        network: Network,
        model: spec.Model,
        engine: Engine,
        batch: Batch,
        config: GenerationConfig,
        session: Session | None = None,
    ) -> None:
        if not (isinstance(network, Decoder | EncoderDecoder) and isinstance(model.head, spec.LanguageHead)):
            form, head = type(model.form).__name__, type(model.head).__name__ if model.head else "no head"
            raise WrongTaskError(f"generate needs a decoder with a language head; this model is {form} with {head}.")
        self.engine = engine
        self.batch = batch
        self._network: Decoder | EncoderDecoder = network
        self._stack = model.output_stack
        self._slides = config.at_context_end is ContextEnd.SLIDE
        self._session = session
        _check_use(network, batch, slides=self._slides, session=session)
        prompt = _prompt(network, batch, config)
        ids = [prompt.ids[begin:end].tolist() for begin, end in prompt.spans.pairs()]
        context = self._stack.context_length
        self._rows = [GrowingSequence(each, len(each), config.limit(len(each), context)) for each in ids]
        """What the cache holds of each sequence: its ids from `num_forgotten` on, as many as the cache says."""
        self._cache = KeyValueCache(engine, self._stack, 1)
        self._memory: EncoderOutput | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a whole call, however it ends: a session is held, and remembers what was read."""
        if self._session is None:
            yield
            return
        with self._session.in_use():
            self._cache = self._session.take(self._rows[0].ids, self._cache)
            try:
                yield
            finally:
                self._cache.keep(np.array([0]))
                row = self._rows[0]
                end = row.num_forgotten + int(self._cache.lengths[0])
                self._session.give_back(self._cache, row.ids[row.num_forgotten : end])

    def begin(self, copies: int) -> tuple[list[GrowingSequence], Array]:
        """Read the prompts, once for all the sequences that are to begin with each.

        Returns:
            B · copies sequences, those of the first prompt first, and the logits of what follows, (B · copies, V).
        """
        if isinstance(self._network, EncoderDecoder):
            with self.engine.inference():
                self._memory = self._network.encode(self.batch)
        if self._session is None:
            self._read_what_prompts_share()
        logits = self._read_the_rest()
        repeated = np.repeat(np.arange(len(self._rows)), copies)
        if copies > 1:
            self.keep(repeated)
            self._rows = [replace(row, ids=list(row.ids), log_probabilities=[]) for row in self._rows]
            logits = self.engine.rows(logits, repeated)
        return self._rows, logits

    def keep(self, sequences: Integers) -> None:
        """Go on with some sequences, in the order given; one may be named twice."""
        self._cache.keep(sequences)
        self._rows = [self._rows[sequence] for sequence in sequences.tolist()]
        self._memory = self._memory and self._memory.select(sequences)

    def advance(self, sequences: list[GrowingSequence]) -> Array:
        """(B, V) logits of what follows, now that each sequence that was kept has one more token."""
        self._rows = sequences
        if self._slides:
            self._slide()
        return self._read_the_rest()

    def _read_what_prompts_share(self) -> None:
        """The beginning that all prompts have in common is read once; the last token of each is left for later."""
        prompts = [row.ids for row in self._rows]
        shared = min(common_beginning(prompts), min(map(len, prompts)) - 1)
        if len(prompts) > 1 and shared >= self.engine.page_size:
            self._forward([prompts[0][:shared]])
        self._cache.keep(np.zeros(len(prompts), np.int64))

    def _slide(self) -> None:
        """Of a sequence that fills the context, forget all but the last half, which is read anew."""
        context = self._stack.context_length
        if context is None:
            return
        is_full = self._cache.lengths == context
        self._cache.truncate(np.where(is_full, 0, self._cache.lengths))
        for place in np.flatnonzero(is_full):
            row = self._rows[place]
            row.num_forgotten = len(row.ids) - max(1, context // 2)

    def _read_the_rest(self) -> Array:
        known = self._cache.lengths.tolist()
        return self._forward([row.ids[row.num_forgotten + n :] for row, n in zip(self._rows, known, strict=True)])

    def _forward(self, ids: Sequence[Sequence[int]]) -> Array:
        packed = np.array(list(chain.from_iterable(ids)), np.int64)
        spans = Spans.of_lengths(np.array(list(map(len, ids)), np.int64))
        step = Batch(ids=packed, spans=spans)
        last = spans.ends - 1
        # Left after each pass: in a stream, the caller's own work goes on between two of them.
        with self.engine.inference():
            if isinstance(self._network, Decoder):
                output = self._network(step, cache=self._cache, logits_at=last)
            else:
                assert self._memory is not None, "begin() has encoded the source"
                output = self._network(self._memory, step, cache=self._cache, logits_at=last)
        return output.logits


def check_finite(is_finite: bool) -> None:
    """Refuse logits that are not all finite.

    Raises:
        NonFiniteError: they are not.
    """
    if not is_finite:
        raise NonFiniteError("The logits hold NaN or infinity, so there is no next token. Are the weights sound?")


def _check_use(network: Network, batch: Batch, *, slides: bool, session: Session | None) -> None:
    """Refuse what has no meaning for a form, or for many prompts."""
    if slides and isinstance(network, EncoderDecoder):
        raise InputError(
            'at_context_end="slide": the decoder of a model of two stacks would forget where it began. '
            'Set at_context_end="stop".'
        )
    if session is not None and isinstance(network, EncoderDecoder):
        raise InputError("session: a model of two stacks has no conversation to go on with. Leave it out.")
    if session is not None and len(batch) != 1:
        raise InputError(f"session: expected one prompt, got {len(batch)}. Give each conversation its own session.")


def _prompt(network: Decoder | EncoderDecoder, batch: Batch, config: GenerationConfig) -> Batch:
    """What the decoder begins with."""
    if isinstance(network, Decoder):
        return batch
    if config.decoder_start_token_id is None:
        raise InputError(
            "The checkpoint does not say what its decoder begins with. "
            "Set decoder_start_token_id in its generation_config.json."
        )
    return Batch.from_ids(np.full((len(batch), 1), config.decoder_start_token_id).tolist())
