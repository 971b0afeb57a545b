"""Greedy decoding: the best token, again and again."""

import numpy as np

from triform import spec
from triform.engines import Engine, Integers
from triform.errors import InputError, NonFiniteError, WrongTaskError
from triform.generation.cache import KeyValueCache
from triform.generation.config import GenerationConfig
from triform.inputs import Batch
from triform.models import Decoder, Encoder, EncoderDecoder, EncoderOutput, Network, Output


def generate(
    network: Network,
    model: spec.Model,
    engine: Engine,
    batch: Batch,
    config: GenerationConfig,
    *,
    max_new_tokens: int | None = None,
) -> list[list[int]]:
    """The best next token for each sequence, until it ends or has `max_new_tokens` of them.

    Sequences of different lengths go together; one that ends leaves the batch and gives its pages back.

    Returns:
        For each sequence its new ids, an end token included, the prompt and the decoder's start token not.

    Raises:
        WrongTaskError: the model has no language head, or is no decoder.
        InputError: `max_new_tokens` is less than 1, or leads beyond the context.
        NonFiniteError: the logits are not finite.
    """
    if isinstance(network, Encoder) or not isinstance(model.head, spec.LanguageHead):
        raise WrongTaskError(
            "generate needs a decoder with a language head; "
            f"this model is {type(model.form).__name__} with {type(model.head).__name__ if model.head else 'no head'}."
        )
    memory, prompt = _begin(network, batch, config)
    context = model.output_stack.context_length
    longest = int(prompt.lengths.max())
    num_steps = config.new_tokens(longest, max_new_tokens, context)
    if num_steps < 1:
        raise InputError(f"max_new_tokens must be at least 1, got {num_steps}.")
    if context is not None and longest + num_steps > context:
        raise InputError(
            f"A prompt of {longest} tokens and {num_steps} new ones are more than the model's context of {context}. "
            f"Shorten the prompt, or ask for at most {context - longest} new tokens."
        )
    cache = KeyValueCache(engine, model.output_stack, len(prompt))
    generated: list[list[int]] = [[] for _ in range(len(prompt))]
    active = np.arange(len(prompt))
    step = prompt
    for _ in range(num_steps):
        chosen = _best(engine, _forward(network, memory, step, cache))
        for sequence, token in zip(active.tolist(), chosen.tolist(), strict=True):
            generated[sequence].append(token)
        going = np.flatnonzero([token not in config.eos_token_ids for token in chosen.tolist()])
        if not len(going):
            break
        if len(going) < len(active):
            active = active[going]
            cache.keep(going)
            memory = memory and memory.select(going)
        step = Batch.from_ids([[token] for token in chosen[going].tolist()])
    return generated


def _begin(
    network: Decoder | EncoderDecoder, batch: Batch, config: GenerationConfig
) -> tuple[EncoderOutput | None, Batch]:
    """What the decoder sees beside its own tokens, and what it begins with."""
    if isinstance(network, Decoder):
        return None, batch
    if config.decoder_start_token_id is None:
        raise InputError(
            "The checkpoint does not say what its decoder begins with. "
            "Set decoder_start_token_id in its generation_config.json."
        )
    return network.encode(batch), Batch.from_ids([[config.decoder_start_token_id]] * len(batch))


def _forward(
    network: Decoder | EncoderDecoder, memory: EncoderOutput | None, step: Batch, cache: KeyValueCache
) -> Output:
    last = step.offsets[1:] - 1
    if isinstance(network, Decoder):
        return network(step, cache=cache, logits_at=last)
    assert memory is not None
    return network(memory, step, cache=cache, logits_at=last)


def _best(engine: Engine, output: Output) -> Integers:
    if not engine.all_finite(output.logits):
        raise NonFiniteError("The logits hold NaN or infinity, so there is no next token. Are the weights sound?")
    return engine.top_k(output.logits, 1)[1][:, 0]
