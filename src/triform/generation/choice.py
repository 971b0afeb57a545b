"""One token for each sequence, again and again: the best, or one drawn by its probability."""

from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from triform.engines import Array, Engine, Integers
from triform.generation.config import GenerationConfig
from triform.generation.decoding import Decoding
from triform.generation.processors import check_left, log_softmax, process, warp
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
        active = np.arange(len(growing))
        while True:
            asked = [growing[sequence] for sequence in active]
            chosen = choose(decoding.engine, logits, asked, [keys[sequence] for sequence in active], config)
            known = _log_probabilities(decoding.engine, logits, chosen) if log_probabilities else [None] * len(chosen)
            for each, token in zip(asked, chosen, strict=True):
                each.ids.append(token)
            out_of_time = stopping.is_out_of_time()
            reasons = [stopping.reason(each, out_of_time=out_of_time) for each in asked]
            yield from map(GeneratedToken, active.tolist(), chosen, known, reasons)
            going = np.flatnonzero([reason is None for reason in reasons])
            if not len(going):
                return
            if len(going) < len(active):
                active = active[going]
                decoding.keep(going)
            logits = decoding.advance([growing[sequence] for sequence in active])


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
) -> list[int]:
    """The next token of each sequence: the best, or one drawn with the sequence's key."""
    if not (config.changes_logits or config.do_sample):
        best: Integers = engine.top_k(logits_BV, 1)[1]
        return [int(token) for token in best[:, 0]]
    processed = process(engine.to_numpy(logits_BV), sequences, config)
    check_left(processed)
    if not config.do_sample:
        return [int(token) for token in processed.argmax(axis=-1)]
    numbers = [uniform(key, each.num_new) for key, each in zip(keys, sequences, strict=True)]
    return draw(warp(processed, config), numbers)


def _log_probabilities(engine: Engine, logits_BV: Array, chosen: Sequence[int]) -> list[float]:
    of_all = log_softmax(engine.to_numpy(logits_BV))
    return [float(row[token]) for row, token in zip(of_all, chosen, strict=True)]
