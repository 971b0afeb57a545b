"""Scores of given sequences: the log-probability of each token given the tokens before it.

Long sequences are read in chunks through a KV cache, so that the logits of a pass have bounded memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from triform import spec
from triform.engines import Array, Engine, Integers
from triform.generation.cache import KeyValueCache, new_cache
from triform.generation.choice import check_finite, most_probable
from triform.generation.network import GenerativeDecoder
from triform.generation.sequence import Alternatives
from triform.inputs import Batch

MAX_ROWS = 2048
"""Most tokens of a pass."""
MAX_LOGITS = 2**24
"""Most logits of a pass, 64 MiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Scores of the n tokens of a sequence."""

    log_probabilities: list[float | None]
    """(n,) log-probability of each token given the tokens before it; None for the first."""
    alternatives: list[Alternatives]
    """(n,) the most probable tokens at each place, the best first; () for the first."""


def score(
    engine: Engine, stack: spec.Stack, decoder: GenerativeDecoder, batch: Batch, num_alternatives: int
) -> list[Score]:
    """Score the sequences of a batch.

    Arguments:
        engine: the engine of the network.
        stack: the spec of the decoder's stack.
        decoder: the network with a language head.
        batch: B sequences, fit for the network.
        num_alternatives: alternatives to each token.

    Raises:
        NonFiniteError: the logits are not finite.
    """
    num_rows = max(1, min(MAX_ROWS, MAX_LOGITS // stack.vocab_size))
    scores: list[Score] = []
    for part in batch.split(num_rows):
        scored = [Score(log_probabilities=[None], alternatives=[()]) for _ in range(len(part))]
        for chunk, cache, predicted in _passes(engine, stack, part, num_rows):
            # The last token of a sequence predicts no token of it.
            rows = np.flatnonzero(predicted >= 0)
            with engine.inference():
                # The head takes at least one row.
                at = rows if len(rows) else np.zeros(1, np.int64)
                logits = decoder.decode(chunk, memory=None, cache=cache, logits_at=at).logits
            if not len(rows):
                continue
            values, alternatives = _rate(engine, logits, predicted[rows], num_alternatives)
            owners = np.repeat(np.arange(len(chunk)), chunk.lengths)[rows]
            for owner, value, best in zip(owners.tolist(), values, alternatives, strict=True):
                scored[owner].log_probabilities.append(value)
                scored[owner].alternatives.append(best)
        scores += scored
    return scores


def _passes(
    engine: Engine, stack: spec.Stack, part: Batch, num_rows: int
) -> Iterator[tuple[Batch, KeyValueCache | None, Integers]]:
    """Yield the batch, the cache and the (T,) tokens that follow each row of each pass; −1 follows the last token."""
    following = np.append(part.ids[1:], -1)
    following[part.spans.ends - 1] = -1
    if part.num_rows <= num_rows:
        yield part, None, following
        return
    cache = new_cache(engine, stack, 1)
    for begin in range(0, part.num_rows, num_rows):
        yield Batch.from_ids([part.ids[begin : begin + num_rows]]), cache, following[begin : begin + num_rows]


def _rate(
    engine: Engine, logits_TV: Array, tokens: Integers, num_alternatives: int
) -> tuple[list[float], Sequence[Alternatives]]:
    """Read the log-probabilities of tokens (T,), and the alternatives, from logits (T, V)."""
    check_finite(engine.all_finite(logits_TV))
    known_TV = engine.to_numpy(engine.log_softmax(logits_TV))
    values: list[float] = known_TV[np.arange(len(tokens)), tokens].tolist()
    return values, most_probable(engine, logits_TV, [num_alternatives] * len(tokens))
