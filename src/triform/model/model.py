"""Model: a network on an engine, with parameters and blueprint."""

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from triform import spec
from triform.engines import Engine, Hook, Integers, Parameter
from triform.errors import InputError, NonFiniteError, WrongTaskError
from triform.generation import (
    Completion,
    Decoding,
    GeneratedToken,
    GenerationConfig,
    KeyValueCache,
    Session,
    Stopping,
    beam_search,
    gather,
    tokens,
)
from triform.hub import Checkpoint
from triform.inputs import Batch, Tokenizer
from triform.model.blueprint import Blueprint
from triform.model.export import save_checkpoint
from triform.networks import EncoderDecoder, EncoderOutput, Network, Output


class Model:
    """A transformer of one of the three forms: Batch → tensors."""

    def __init__(
        self, blueprint: Blueprint, engine: Engine, network: Network, parameters: Mapping[str, Parameter]
    ) -> None:
        self.blueprint = blueprint
        self.engine = engine
        self.network = network
        self.parameters = parameters

    def __repr__(self) -> str:
        form, head = type(self.spec.form).__name__, type(self.spec.head).__name__ if self.spec.head else "no head"
        return f"<Model {self.checkpoint.source}: {form}, {head}, {self.num_parameters:,} parameters>"

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
        """One forward pass.

        Arguments:
            source: the batch; for an encoder-decoder what the encoder reads, or what `encode` made of it.
            target: for an encoder-decoder the decoder's ids as fed, one sequence for each of the source.
            cache: of `new_cache`; each sequence goes on where the cache left it.
            hidden_states: whether to keep those of every layer.
            logits_at: the rows of the packed batch whose logits are wanted, ascending; without it all.
            tap: sees, and may change, what passes the trace points.

        Raises:
            InputError: ids outside the vocabulary, too long a sequence, a target missing or not wanted.
            NonFiniteError: the result holds NaN or infinity.
        """
        arguments: dict[str, Any] = {
            "cache": cache,
            "hidden_states": hidden_states,
            "logits_at": logits_at,
            "hook": hook,
        }
        with self.engine.inference():
            if isinstance(self.network, EncoderDecoder):
                if target is None:
                    raise InputError("target is missing: an encoder-decoder is called as model(source, target).")
                output = self.network(source, target, **arguments)
            elif target is not None or isinstance(source, EncoderOutput):
                raise InputError(
                    "This model reads one batch; call it as model(batch), without encoder states or target."
                )
            else:
                output = self.network(source, **arguments)
        self._check_finite(output.last_hidden_state if output.logits is None else output.logits)
        return output

    def encode(self, source: Batch, *, hidden_states: bool = False, hook: Hook | None = None) -> EncoderOutput:
        """The encoder of an encoder-decoder alone.

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
        """An empty cache for the decoder's keys and values."""
        return KeyValueCache(self.engine, self.spec.output_stack, num_sequences)

    def generate(self, batch: Batch, *, max_new_tokens: int | None = None, **settings: Any) -> list[list[int]]:
        """The ids of `complete`: for each sequence the new ones, an end token included, the prompt not."""
        return [completion.ids for completion in self.complete(batch, max_new_tokens=max_new_tokens, **settings)]

    def complete(
        self,
        batch: Batch,
        *,
        max_new_tokens: int | None = None,
        session: Session | None = None,
        log_probabilities: bool = False,
        **settings: Any,
    ) -> list[Completion]:
        """For each sequence what follows and what ended it; several answers to one in a row.

        Arguments:
            batch: the prompts; for an encoder-decoder what the encoder reads.
            max_new_tokens: most of them; without it the checkpoint's generation_config.json sets the limit, or else it
                is 256. What happens where the context has no room for them, `at_context_end` says.
            session: of a conversation; what it has in common with its last call is not read again.
            log_probabilities: whether to keep what the model gave each token, before any setting.
            settings: any other of `GenerationConfig`, over those of the checkpoint; None leaves one as it is.

        Raises:
            WrongTaskError: the model has no language head, or is no decoder.
            InputError: an unknown or impossible setting, or a limit beyond the context.
        """
        config = self._generation_config(max_new_tokens=max_new_tokens, **settings)
        decoding, stopping = self._decoding(batch, config, session), self._stopping(config)
        if config.num_beams == 1:
            steps = tokens(decoding, config, stopping, log_probabilities=log_probabilities)
            return gather(steps, len(batch) * config.num_return_sequences)
        completions = beam_search(decoding, config, stopping)
        return completions if log_probabilities else [replace(each, log_probabilities=None) for each in completions]

    def stream(
        self,
        batch: Batch,
        *,
        max_new_tokens: int | None = None,
        session: Session | None = None,
        log_probabilities: bool = False,
        **settings: Any,
    ) -> Generator[GeneratedToken]:
        """The tokens of `complete` as they come: (sequence, id, log-probability if asked for, what ended it).

        All sequences take a step, in order, before any takes the next. Closing the iterator ends the work.

        Raises:
            WrongTaskError, InputError: as `complete`; and for beam search, which knows its tokens only at the end.
        """
        config = self._generation_config(max_new_tokens=max_new_tokens, **settings)
        if config.num_beams > 1:
            raise InputError(f"num_beams={config.num_beams}: beams cannot be streamed; set num_beams=1.")
        decoding, stopping = self._decoding(batch, config, session), self._stopping(config)
        return tokens(decoding, config, stopping, log_probabilities=log_probabilities)

    def _generation_config(self, **settings: Any) -> GenerationConfig:
        return GenerationConfig.from_checkpoint(self.checkpoint).updated(settings)

    def _decoding(self, batch: Batch, config: GenerationConfig, session: Session | None = None) -> Decoding:
        return Decoding(self.network, self.spec, self.engine, batch, config, session)

    def _stopping(self, config: GenerationConfig) -> Stopping:
        # Special tokens may be what the caller stops at.
        decode = partial(self._tokenizer.decode, skip_special_tokens=False) if config.stop_strings else None
        return Stopping(config, decode)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """Tokenizer of the checkpoint, needed for stop strings alone."""
        return Tokenizer.from_checkpoint(self.checkpoint)

    def save(self, folder: str | Path) -> None:
        """Write the model as a checkpoint in the Hugging Face layout, small files included.

        Tensors of the checkpoint that the model does not use, such as another head, are copied unchanged. An adapter is
        merged into the weights. Integers are written in the layout of compressed-tensors, the language head in floats.

        Raises:
            InputError: the folder cannot be made.
            UnsupportedModelError: the layout does not have integers for this family.
        """
        parameters = {name: self.engine.stored(own) for name, own in self.parameters.items()}
        save_checkpoint(self.blueprint, parameters, Path(folder))

    def _check_finite(self, values: Any) -> None:
        if not self.engine.all_finite(values):
            raise NonFiniteError(
                f"{self.checkpoint.source}: the result holds NaN or infinity, so it is no answer. Are the weights "
                f"sound, and is their range within what dtype {next(iter(self.parameters.values())).format} can hold?"
            )
