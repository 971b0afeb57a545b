"""One token for each sequence, again and again: the best, or one drawn by its probability."""

from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from triform.engines import Array, Engine
from triform.generation.config import GenerationConfig
from triform.generation.decoding import Decoding, check_finite
from triform.generation.processors import check_left, process, warp
from triform.generation.sampling import draw, sequence_keys, uniform
from triform.generation.sequence import Completion, FinishReason, GrowingSequence
from triform.generation.stopping import Stopping


class GeneratedToken(NamedTuple):
    """The next token of a sequence."""

    sequence: int
    """Which of the batch; with several answers to each prompt, prompt · num_return_sequences + answer."""
    id: int
    log_probability: float | None = None
    """What the model gave it, before any setting; if asked for."""
    finish_reason: FinishReason | None = None
    """With the last token of a sequence, what ended it."""


def tokens(
    decoding: Decoding, config: GenerationConfig, stopping: Stopping, *, log_probabilities: bool = False
) -> Generator[GeneratedToken]:
    """The tokens of all sequences, step by step, end tokens included.

    Sequences of different lengths go together; one that ends leaves the batch and gives its pages back.

    Raises:
        NonFiniteError: the logits are not finite.
        InputError: the settings leave no token to choose.
    """
    keys = sequence_keys(decoding.batch, config.num_return_sequences, config.seed)
    with decoding.running():
        growing, logits = decoding.begin(config.num_return_sequences)
        active = list(range(len(growing)))
        while True:
            chosen, known = choose(decoding.engine, logits, growing, keys, config)
            out_of_time = stopping.is_out_of_time()
            reasons = []
            for each, token in zip(growing, chosen, strict=True):
                reasons.append(stopping.reason(each, token, out_of_time=out_of_time))
                each.ids.append(token)
            shown = known if log_probabilities else [None] * len(known)
            yield from map(GeneratedToken, active, chosen, shown, reasons)
            going = [place for place, reason in enumerate(reasons) if reason is None]
            if not going:
                return
            if len(going) < len(active):
                active = [active[place] for place in going]
                growing = [growing[place] for place in going]
                keys = [keys[place] for place in going]
                decoding.keep(np.array(going))
            logits = decoding.advance(growing)


def gather(steps: Iterable[GeneratedToken], num_sequences: int) -> list[Completion]:
    """The whole answers of a stream of tokens."""
    own: list[list[GeneratedToken]] = [[] for _ in range(num_sequences)]
    for token in steps:
        own[token.sequence].append(token)
    return [
        Completion(
            ids=[token.id for token in each],
            finish_reason=each[-1].finish_reason or FinishReason.STOP,
            log_probabilities=_all_known([token.log_probability for token in each]),
        )
        for each in own
    ]


def _all_known(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def choose(
    engine: Engine,
    logits_BV: Array,
    sequences: Sequence[GrowingSequence],
    keys: Sequence[int],
    config: GenerationConfig,
) -> tuple[list[int], list[float]]:
    """The next token of each sequence, the best or one drawn with the sequence's key, and its log-probability.

    Raises:
        NonFiniteError: the logits are not finite.
        InputError: the settings leave no token to choose.
    """
    if not (config.changes_logits or config.do_sample):
        known, best = engine.top_log_probabilities(logits_BV, 1)
        check_finite(not np.isnan(known).any())
        return best[:, 0].tolist(), known[:, 0].tolist()
    check_finite(engine.all_finite(logits_BV))
    processed = process(engine.to_numpy(logits_BV), sequences, config)
    check_left(processed)
    if config.do_sample:
        numbers = [uniform(key, each.num_new) for key, each in zip(keys, sequences, strict=True)]
        chosen = draw(warp(processed, config), numbers)
    else:
        chosen = processed.argmax(axis=-1).tolist()
    of_all = engine.to_numpy(engine.log_softmax(logits_BV))
    return chosen, of_all[np.arange(len(chosen)), chosen].tolist()
