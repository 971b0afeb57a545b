"""Model: a network on an engine, with parameters and blueprint.

`triform.generation` is imported by the methods that generate, so that a model of another form starts without it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from triform import spec
from triform.engines import Engine, Hook, Integers, Parameter
from triform.errors import InputError, NonFiniteError, WrongTaskError
from triform.hub import Checkpoint
from triform.inputs import Batch, Tokenizer
from triform.model.blueprint import Blueprint
from triform.model.export import save_checkpoint
from triform.networks import Decoder, EncoderDecoder, EncoderOutput, Network, Output

if TYPE_CHECKING:
    from triform.generation import (
        Completion,
        GeneratedToken,
        GenerationConfig,
        Grammar,
        KeyValueCache,
        Request,
        Scheduler,
        Score,
    )


class Model:
    """A transformer of any of the three forms: Batch → tensors.

    A loaded model is pickled and copied as the arguments of `triform.load`, and loads again where it is unpickled.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        engine: Engine,
        network: Network,
        parameters: Mapping[str, Parameter],
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.blueprint = blueprint
        self.engine = engine
        self.network = network
        self.parameters = parameters
        self._arguments = arguments
        self._shared_scheduler: Scheduler | None = None
        self._lock = Lock()

    def __repr__(self) -> str:
        form, head = type(self.spec.form).__name__, type(self.spec.head).__name__ if self.spec.head else "no head"
        return f"<Model {self.checkpoint.source}: {form}, {head}, {self.num_parameters:,} parameters>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._arguments is None:
            raise InputError(
                f"{self.checkpoint.source}: this model was trained or made in memory, so its name does not bring it "
                "back. Save it with model.save(folder), and load that folder."
            )
        from triform.model.loading import load

        return partial(load, **self._arguments), ()

    @property
    def spec(self) -> spec.Model:
        """Spec of the model."""
        return self.blueprint.spec

    @property
    def checkpoint(self) -> Checkpoint:
        """Files of the model."""
        return self.blueprint.checkpoint

    @property
    def num_parameters(self) -> int:
        """Number of scalars in all parameters."""
        return self.blueprint.num_parameters

    def __call__(
        self,
        source: Batch | EncoderOutput,
        target: Batch | None = None,
        *,
        cache: KeyValueCache | None = None,
        hidden_states: bool = False,
        logits_at: Integers | None = None,
        hook: Hook | None = None,
    ) -> Output:
        """Run a forward pass: (T,) ids → hidden states (T, D), and logits if the model has a head.

        Arguments:
            source: the batch; for an encoder-decoder the sources, or the result of `encode`.
            target: for an encoder-decoder the decoder's input ids, one sequence for each source.
            cache: a cache of `new_cache`; sequence b continues sequence b of the cache.
            hidden_states: whether to return the hidden states of every layer.
            logits_at: the rows of the packed batch to compute logits for, ascending; None for all rows.
            hook: sees, and may change, the tensors at the trace points.

        Raises:
            InputError: ids outside the vocabulary, a sequence longer than the context, a missing or superfluous target.
            NonFiniteError: the result holds NaN or infinity.
        """
        arguments: dict[str, Any] = {"hidden_states": hidden_states, "logits_at": logits_at, "hook": hook}
        with self.engine.inference():
            match self.network:
                case EncoderDecoder() as network:
                    if target is None:
                        raise InputError("target is missing: an encoder-decoder is called as model(source, target).")
                    output = network(source, target, cache=cache, **arguments)
                case network:
                    if target is not None or isinstance(source, EncoderOutput):
                        raise InputError(
                            "This model reads one batch; call it as model(batch), without encoder states or target."
                        )
                    if isinstance(network, Decoder):
                        arguments["cache"] = cache
                    elif cache is not None:
                        raise InputError(
                            "cache: this model reads whole sequences, so it keeps no cache. Call it without one."
                        )
                    output = network(source, **arguments)
        self._check_finite(output.last_hidden_state if output.logits is None else output.logits)
        return output

    def encode(self, source: Batch, *, hidden_states: bool = False, hook: Hook | None = None) -> EncoderOutput:
        """Run the encoder of an encoder-decoder: (S,) ids → states (S, D).

        Raises:
            WrongTaskError: the model is of another form.
        """
        if not isinstance(self.network, EncoderDecoder):
            raise WrongTaskError(
                "encode is for encoder-decoders that are given a target; call this one as model(batch)."
            )
        with self.engine.inference():
            output = self.network.encode(source, hidden_states=hidden_states, hook=hook)
        self._check_finite(output.last_hidden_state)
        return output

    def new_cache(self, num_sequences: int) -> KeyValueCache:
        """Make an empty KV cache for the decoder's self-attention."""
        from triform.generation import new_cache

        return new_cache(self.engine, self.spec.output_stack, num_sequences)

    def generate(self, batch: Batch, *, max_new_tokens: int | None = None, **settings: Any) -> list[list[int]]:
        """Return the generated ids of `complete`, without the prompt; an end token is included."""
        return [completion.ids for completion in self.complete(batch, max_new_tokens=max_new_tokens, **settings)]

    def complete(
        self,
        batch: Batch,
        *,
        max_new_tokens: int | None = None,
        log_probabilities: bool = False,
        hook: Hook | None = None,
        **settings: Any,
    ) -> list[Completion]:
        """Generate a continuation of each sequence. Several answers to a prompt stand together.

        Calls of several threads share the passes of the model (continuous batching), and prompts reuse pages of earlier
        prompts and answers with an equal beginning (prefix cache). Both leave every answer unchanged.

        Arguments:
            batch: the prompts; for an encoder-decoder the encoder's sources.
            max_new_tokens: most tokens of an answer; without it the limit of the checkpoint's generation_config.json,
                or else 256. `at_context_end` sets the policy at the end of the context.
            log_probabilities: whether to return the log-probability of each token, before any setting changed it.
            hook: sees, and may change, every pass. A call with a hook shares no passes and no prefixes.
            settings: other settings of `GenerationConfig`, instead of the checkpoint's; None keeps the checkpoint's.

        Raises:
            WrongTaskError: the model is not a decoder with a language head.
            InputError: an unknown or impossible setting, a limit beyond the context, or ids outside the vocabulary.
            NonFiniteError: the logits hold NaN or infinity.
        """
        settings = {"max_new_tokens": max_new_tokens, **settings}
        requests = self.new_requests(batch, log_probabilities=log_probabilities, **settings)
        return self.complete_requests(requests, hook=hook)

    def complete_requests(self, requests: Sequence[Request], *, hook: Hook | None = None) -> list[Completion]:
        """Run requests of `new_requests` to their end, as `complete` does, and return their answers in order."""
        for _ in self._scheduler(hook).run(requests):
            pass
        return [completion for request in requests for completion in request.completions]

    def stream(
        self,
        batch: Batch,
        *,
        max_new_tokens: int | None = None,
        log_probabilities: bool = False,
        hook: Hook | None = None,
        **settings: Any,
    ) -> Generator[GeneratedToken]:
        """Yield the tokens of `complete` in the order of generation: (sequence, id, log-probability, finish reason).

        Closing the iterator ends the work.

        Raises:
            WrongTaskError, InputError, NonFiniteError: as `complete`; InputError also for beam search, whose tokens
                are known only at the end.
        """
        settings = {"max_new_tokens": max_new_tokens, **settings}
        requests = self.new_requests(batch, log_probabilities=log_probabilities, **settings)
        if (num_beams := requests[0].config.num_beams) > 1:
            raise InputError(f"num_beams={num_beams}: beams cannot be streamed; set num_beams=1.")
        return self._scheduler(hook).run(requests)

    def score(self, batch: Batch, *, num_alternatives: int = 0) -> list[Score]:
        """Compute the log-probability of each token of sequences given the tokens before it.

        Arguments:
            batch: B sequences.
            num_alternatives: how many of the most probable tokens to return at each place, at most 20.

        Returns:
            (B,) scores. On a batch-invariant engine a sequence has the same bits alone and in any batch.

        Raises:
            WrongTaskError: the model is not a decoder with a language head.
            InputError: ids outside the vocabulary, or a sequence longer than the context.
            NonFiniteError: the logits hold NaN or infinity.
        """
        from triform.generation.request import check_alternatives
        from triform.generation.scoring import score

        network = self._generative_network()
        if not isinstance(network, Decoder):
            raise WrongTaskError("score reads one sequence, and an encoder-decoder reads two. Choose a decoder.")
        check_alternatives(num_alternatives)
        network.check_input(batch)
        return score(self.engine, self.spec.output_stack, network, batch, num_alternatives)

    @cached_property
    def generation_config(self) -> GenerationConfig:
        """The settings of the checkpoint's generation_config.json, read once.

        Raises:
            UnsupportedModelError: a setting is not implemented in this version, or is impossible.
        """
        from triform.generation import GenerationConfig

        return GenerationConfig.from_checkpoint(self.checkpoint)

    def new_scheduler(self, *, byte_budget: int | None = None, hook: Hook | None = None) -> Scheduler:
        """Make a scheduler of requests, with a new KV cache.

        Arguments:
            byte_budget: most bytes of keys and values; None for no limit.
            hook: sees, and may change, every pass.

        Raises:
            WrongTaskError: the model is not a decoder with a language head.
        """
        from triform.generation import Scheduler

        network = self._generative_network()
        encoder = network if isinstance(network, EncoderDecoder) else None
        return Scheduler(self.engine, self.spec.output_stack, network, encoder, byte_budget=byte_budget, hook=hook)

    def new_requests(
        self,
        batch: Batch,
        *,
        log_probabilities: bool = False,
        num_alternatives: int = 0,
        grammar: Grammar | None = None,
        **settings: Any,
    ) -> list[Request]:
        """Make a request of each sequence of a batch, for `Scheduler.add`; other arguments and errors as in `complete`.

        Arguments:
            batch: the prompts; for an encoder-decoder the encoder's sources.
            log_probabilities: whether tokens have their log-probability.
            num_alternatives: how many of the most probable tokens to return with each token, at most 20.
            grammar: the grammar of every answer.
            settings: settings of `GenerationConfig`.
        """
        from triform.generation import Stopping, requests_of

        network = self._generative_network()
        config = self.generation_config.updated(settings)
        config.check_vocabulary(self.spec.output_stack.vocab_size)
        # A stop string may be a special token.
        decode = partial(self._tokenizer.decode, skip_special_tokens=False) if config.stop_strings else None
        requests = requests_of(
            batch,
            config,
            Stopping(config, decode),
            context_length=self.spec.output_stack.context_length,
            reads_source=isinstance(network, EncoderDecoder),
            log_probabilities=log_probabilities,
            num_alternatives=num_alternatives,
            grammar=grammar,
        )
        network.check_input(batch)
        return requests

    def _scheduler(self, hook: Hook | None) -> Scheduler:
        # Calls share passes only if other sequences cannot change the bits of an answer.
        if hook is not None or not self.engine.is_batch_invariant:
            return self.new_scheduler(hook=hook)
        with self._lock:
            if self._shared_scheduler is None:
                self._shared_scheduler = self.new_scheduler()
            return self._shared_scheduler

    def _generative_network(self) -> Decoder | EncoderDecoder:
        if isinstance(self.network, Decoder | EncoderDecoder) and isinstance(self.spec.head, spec.LanguageHead):
            return self.network
        form, head = type(self.spec.form).__name__, type(self.spec.head).__name__ if self.spec.head else "no head"
        raise WrongTaskError(f"generate needs a decoder with a language head; this model is {form} with {head}.")

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """Tokenizer of the checkpoint, needed for stop strings alone."""
        return Tokenizer.from_checkpoint(self.checkpoint)

    def save(self, folder: str | Path) -> None:
        """Write the model as a checkpoint in the Hugging Face layout, small files included.

        Tensors of the checkpoint that the model does not use, such as another head, are copied unchanged. An adapter is
        merged into the weights. Integers are written in the layout of compressed-tensors, the language head in floats.

        Raises:
            InputError: the folder cannot be made, lies inside of the model's, or holds an adapter.
            OutputError: the files cannot be written; a checkpoint that was there is then unchanged.
            UnsupportedModelError: the layout does not have integers for this family.
        """
        parameters = {name: self.engine.stored(own) for name, own in self.parameters.items()}
        save_checkpoint(self.blueprint, parameters, Path(folder))

    def _check_finite(self, values: Any) -> None:
        if not self.engine.all_finite(values):
            raise NonFiniteError(
                f"{self.checkpoint.source}: the result holds NaN or infinity. Check the weights, and whether dtype "
                f"{next(iter(self.parameters.values())).format} can hold their range."
            )
