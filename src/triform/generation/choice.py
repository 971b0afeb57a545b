"""The choice of the next token of each sequence: the most probable token (greedy), or a sampled one."""

from collections.abc import Sequence

import numpy as np

from triform.engines import Array, Engine
from triform.errors import NonFiniteError
from triform.generation.config import GenerationConfig
from triform.generation.processors import check_left, follow_grammar, process, warp
from triform.generation.sampling import draw, uniform
from triform.generation.sequence import Alternatives, GrowingSequence


def choose(
    engine: Engine,
    logits_BV: Array,
    sequences: Sequence[GrowingSequence],
    keys: Sequence[int],
    config: GenerationConfig,
) -> tuple[list[int], list[float]]:
    """Choose the next token of each sequence, greedy or sampled: (B, V) logits → (B,) tokens.

    Sampling uses the random key of each sequence. Either all sequences follow a grammar, or none.

    Returns:
        (B,) tokens, and their log-probabilities (B,) before any setting changed the logits.

    Raises:
        NonFiniteError: the logits are not finite.
        InputError: the settings or the grammar leave no token to choose.
    """
    has_grammar = sequences[0].matcher is not None
    if not (config.changes_logits or config.do_sample or has_grammar):
        known, best = engine.top_log_probabilities(logits_BV, 1)
        check_finite(not np.isnan(known).any())
        return best[:, 0].tolist(), known[:, 0].tolist()
    check_finite(engine.all_finite(logits_BV))
    processed = engine.to_numpy(logits_BV)
    if has_grammar:
        processed = follow_grammar(processed, sequences, config.eos_token_id)
    processed = process(processed, sequences, config)
    check_left(processed)
    if config.do_sample:
        numbers = [uniform(key, each.num_new) for key, each in zip(keys, sequences, strict=True)]
        chosen = draw(warp(processed, config), numbers)
    else:
        chosen = processed.argmax(axis=-1).tolist()
    of_all = engine.to_numpy(engine.log_softmax(logits_BV))
    return chosen, of_all[np.arange(len(chosen)), chosen].tolist()


def most_probable(engine: Engine, logits_BV: Array, counts: Sequence[int]) -> list[Alternatives]:
    """Find the most probable tokens of each row of logits (B, V), as many as `counts` (B,) says, the best first."""
    found: list[Alternatives] = [()] * len(counts)
    rows = np.flatnonzero(counts)
    if len(rows):
        logits = logits_BV if len(rows) == len(counts) else engine.rows(logits_BV, rows)
        values, tokens = engine.top_log_probabilities(logits, max(counts))
        for row, own_tokens, own_values in zip(rows.tolist(), tokens.tolist(), values.tolist(), strict=True):
            found[row] = tuple(zip(own_tokens, own_values, strict=True))[: counts[row]]
    return found


def check_finite(is_finite: bool) -> None:
    """Refuse logits with NaN or infinity.

    Raises:
        NonFiniteError: `is_finite` is False.
    """
    if not is_finite:
        raise NonFiniteError(
            "The logits hold NaN or infinity, so no token can be chosen. Check the weights and their dtype."
        )
