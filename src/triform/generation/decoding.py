"""Sequences that a decoder lengthens. Knows how to come to the next logits, not how a token is chosen of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from triform import spec
from triform.engines import Array, Engine, Integers
from triform.errors import InputError, NonFiniteError, WrongTaskError
from triform.generation.cache import KeyValueCache
from triform.generation.config import GenerationConfig
from triform.generation.processors import GrowingSequence
from triform.inputs import Batch
from triform.models import Decoder, EncoderDecoder, EncoderOutput, Network


class Decoding:
    """A network, the cache of its decoder, and what that sees of an encoder.

    Raises:
        WrongTaskError: the model has no language head, or is no decoder.
        InputError: the caller's limit leads beyond the context.
    """

    def __init__(
        self, network: Network, model: spec.Model, engine: Engine, batch: Batch, config: GenerationConfig
    ) -> None:
        if not (isinstance(network, Decoder | EncoderDecoder) and isinstance(model.head, spec.LanguageHead)):
            form, head = type(model.form).__name__, type(model.head).__name__ if model.head else "no head"
            raise WrongTaskError(f"generate needs a decoder with a language head; this model is {form} with {head}.")
        self.engine = engine
        self.batch = batch
        self._network: Decoder | EncoderDecoder = network
        self._prompt = _prompt(network, batch, config)
        ids = [self._prompt.ids[begin:end].tolist() for begin, end in self._prompt.spans.pairs()]
        context = model.output_stack.context_length
        self._prompts = [GrowingSequence(each, len(each), config.limit(len(each), context)) for each in ids]
        self._cache = KeyValueCache(engine, model.output_stack, len(ids))
        self._memory: EncoderOutput | None = None

    def begin(self, copies: int) -> tuple[list[GrowingSequence], Array]:
        """Read the prompts, once for all the sequences that are to begin with each.

        Returns:
            B · copies sequences, those of the first prompt first, and the logits of what follows, (B · copies, V).
        """
        if isinstance(self._network, EncoderDecoder):
            with self.engine.inference():
                self._memory = self._network.encode(self.batch)
        logits = self._forward(self._prompt)
        growing = [replace(prompt, ids=list(prompt.ids)) for prompt in self._prompts for _ in range(copies)]
        if copies == 1:
            return growing, logits
        repeated = np.repeat(np.arange(len(self._prompts)), copies)
        self.keep(repeated)
        return growing, self.engine.rows(logits, repeated)

    def keep(self, sequences: Integers) -> None:
        """Go on with some sequences, in the order given; one may be named twice."""
        self._cache.keep(sequences)
        self._memory = self._memory and self._memory.select(sequences)

    def advance(self, tokens: Sequence[int]) -> Array:
        """(B, V) logits of what follows one more token of each sequence."""
        return self._forward(Batch.from_ids([[token] for token in tokens]))

    def _forward(self, step: Batch) -> Array:
        last = step.offsets[1:] - 1
        # Left after each pass: in a stream, the caller's own work goes on between two of them.
        with self.engine.inference():
            if isinstance(self._network, Decoder):
                output = self._network(step, cache=self._cache, logits_at=last)
            else:
                assert self._memory is not None, "begin() has encoded the source"
                output = self._network(self._memory, step, cache=self._cache, logits_at=last)
            if not self.engine.all_finite(output.logits):
                raise NonFiniteError(
                    "The logits hold NaN or infinity, so there is no next token. Are the weights sound?"
                )
        return output.logits


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
