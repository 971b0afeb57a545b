"""Logits processors: pure functions on (B, V) float32, in NumPy on every engine.

Functions and their order follow `transformers/generation/logits_process.py`, where `logit_bias` is `sequence_bias`. The
penalties for frequency and presence, which transformers does not have, come behind the repetition penalty.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from triform.errors import InputError
from triform.generation.config import GenerationConfig
from triform.generation.sequence import GrowingSequence

Floats = NDArray[np.float32]
Rows = NDArray[np.bool_]

TINY_TEMPERATURE = 1e-30
"""Least temperature for a division in float32."""


def process(logits_BV: Floats, sequences: Sequence[GrowingSequence], config: GenerationConfig) -> Floats:
    """Apply the settings for greedy choice, sampling and beams: (B, V) → (B, V), in the order of transformers."""

    def rows(is_meant: list[bool]) -> Rows:
        return np.array(is_meant)

    if config.logit_bias:
        logits_BV = add_biases(logits_BV, config.logit_bias)
    if config.repetition_penalty != 1:
        logits_BV = penalize_repetition(logits_BV, [each.ids for each in sequences], config.repetition_penalty)
    if config.frequency_penalty or config.presence_penalty:
        new = [each.new_ids for each in sequences]
        logits_BV = penalize_occurrences(logits_BV, new, config.frequency_penalty, config.presence_penalty)
    if config.no_repeat_ngram_size:
        logits_BV = ban_repeated_ngrams(logits_BV, [each.ids for each in sequences], config.no_repeat_ngram_size)
    if runs := [run for run in config.bad_words_ids if run not in [(end,) for end in config.eos_token_id]]:
        logits_BV = ban_runs(logits_BV, [each.ids for each in sequences], runs)
    if config.min_length or config.min_new_tokens:
        too_short = rows([each.num_new < config.least(each.prompt_length) for each in sequences])
        logits_BV = suppress(logits_BV, config.eos_token_id, too_short)
    if config.forced_bos_token_id is not None:
        lone = rows([len(each.ids) == 1 for each in sequences])
        logits_BV = force(logits_BV, (config.forced_bos_token_id,), lone)
    if config.forced_eos_token_id:
        at_limit = rows([each.num_new == each.limit.num_tokens - 1 for each in sequences])
        logits_BV = force(logits_BV, config.forced_eos_token_id, at_limit)
    if config.suppress_tokens:
        logits_BV = suppress(logits_BV, config.suppress_tokens, np.ones(len(sequences), bool))
    if config.begin_suppress_tokens:
        # After a forced first token, the next token counts as the beginning.
        forced = config.forced_bos_token_id is not None
        at_begin = rows([each.num_new == int(forced and each.prompt_length == 1) for each in sequences])
        logits_BV = suppress(logits_BV, config.begin_suppress_tokens, at_begin)
    return logits_BV


def follow_grammar(logits_BV: Floats, sequences: Sequence[GrowingSequence], end_tokens: Sequence[int]) -> Floats:
    """Set to −∞ each token that the grammar of its row does not allow. End tokens stay where the grammar may end.

    Raises:
        InputError: a grammar leaves no token.
    """
    out = np.full_like(logits_BV, -np.inf)
    ends = [token for token in end_tokens if token < out.shape[1]]
    for row, logits, sequence in zip(out, logits_BV, sequences, strict=True):
        assert sequence.matcher is not None, "all rows follow a grammar"
        allowed = sequence.matcher.allowed(len(row))
        allowed[ends] = sequence.matcher.may_end
        if not allowed.any():
            raise InputError("The vocabulary of the model has no token with which the grammar could go on.")
        row[allowed] = logits[allowed]
    return out


def check_left(logits_BV: Floats) -> None:
    """Refuse rows (B, V) without a token above −∞.

    Raises:
        InputError: the settings leave no token to choose.
    """
    if not (logits_BV > -np.inf).any(axis=-1).all():
        raise InputError(
            "The settings leave no token to choose. Look at suppress_tokens, no_repeat_ngram_size and forced tokens."
        )


def warp(logits_BV: Floats, config: GenerationConfig) -> Floats:
    """Apply temperature, top-k, top-p and min-p, for sampling: (B, V) → (B, V), in the order of transformers."""
    # With beams, one token more than the end tokens must stay, so that a beam can continue.
    least = 1 if config.num_beams == 1 else 1 + max(1, len(config.eos_token_id))
    if config.temperature != 1:
        logits_BV = divide_by_temperature(logits_BV, config.temperature)
    if config.top_k:
        logits_BV = keep_top_k(logits_BV, max(config.top_k, least))
    if config.top_p < 1:
        logits_BV = keep_top_p(logits_BV, config.top_p, least=least)
    if config.min_p is not None:
        logits_BV = keep_min_p(logits_BV, config.min_p, least=least)
    return logits_BV


def divide_by_temperature(logits_BV: Floats, temperature: float) -> Floats:
    """Divide logits (B, V) by a temperature. A tiny one leaves the best tokens alone, where the quotient overflows."""
    if temperature >= TINY_TEMPERATURE:
        return logits_BV / np.float32(temperature)
    return np.where(logits_BV == logits_BV.max(axis=-1, keepdims=True), np.float32(0), np.float32(-np.inf))


def penalize_repetition(logits_BV: Floats, ids: Sequence[Sequence[int]], penalty: float) -> Floats:
    """Repetition penalty: make tokens seen before less likely by a factor. Keskar et al. 2019, section 4.1."""
    out = logits_BV.copy()
    for row, seen in zip(out, ids, strict=True):
        tokens = np.unique(seen)
        values = row[tokens]
        row[tokens] = np.where(values < 0, values * np.float32(penalty), values / np.float32(penalty))
    return out


def add_biases(logits_BV: Floats, biases: Sequence[tuple[int, float]]) -> Floats:
    """Logit bias: add a number to the logits of each of these tokens, in all rows."""
    tokens, values = zip(*biases, strict=True)
    out = logits_BV.copy()
    out[:, list(tokens)] += np.array(values, np.float32)
    return out


def penalize_occurrences(
    logits_BV: Floats, new_ids: Sequence[Sequence[int]], frequency: float, presence: float
) -> Floats:
    """Frequency penalty and presence penalty: subtract count · frequency + presence from each generated token's logit.

    "Advanced usage" of OpenAI's documentation, section "Parameter details".
    """
    out = logits_BV.copy()
    for row, generated in zip(out, new_ids, strict=True):
        tokens, counts = np.unique(np.array(generated, np.int64), return_counts=True)
        row[tokens] -= (counts * frequency + presence).astype(np.float32)
    return out


def ban_repeated_ngrams(logits_BV: Floats, ids: Sequence[Sequence[int]], size: int) -> Floats:
    """Set to −∞ each token that would repeat an n-gram of `size` tokens."""
    out = logits_BV.copy()
    for row, seen in zip(out, ids, strict=True):
        if len(seen) < size:
            continue
        windows = sliding_window_view(np.array(seen), size)
        repeats = (windows[:, :-1] == seen[len(seen) + 1 - size :]).all(axis=1)
        row[windows[repeats, -1]] = -np.inf
    return out


def ban_runs(logits_BV: Floats, ids: Sequence[Sequence[int]], runs: Sequence[Sequence[int]]) -> Floats:
    """Set to −∞ each token that would complete a banned run of tokens. Ids outside the vocabulary are ignored."""
    out = logits_BV.copy()
    for row, seen in zip(out, ids, strict=True):
        for *beginning, last in runs:
            if last < len(row) and len(seen) >= len(beginning) and seen[len(seen) - len(beginning) :] == beginning:
                row[last] = -np.inf
    return out


def suppress(logits_BV: Floats, tokens: Sequence[int], rows: Rows) -> Floats:
    """Set these tokens to −∞ in these rows, (B,) flags. Ids outside the vocabulary are ignored."""
    if not rows.any():
        return logits_BV
    out = logits_BV.copy()
    known = [token for token in tokens if token < out.shape[1]]
    out[:, known] = np.where(rows[:, None], -np.inf, out[:, known])
    return out


def force(logits_BV: Floats, tokens: Sequence[int], rows: Rows) -> Floats:
    """Allow only these tokens in these rows, (B,) flags.

    Raises:
        InputError: an id outside the vocabulary.
    """
    if max(tokens) >= logits_BV.shape[1]:
        raise InputError(f"A forced token {max(tokens)} is outside the vocabulary of {logits_BV.shape[1]} entries.")
    if not rows.any():
        return logits_BV
    out = logits_BV.copy()
    out[rows] = -np.inf
    out[np.ix_(rows, np.array(tokens, np.int64))] = 0
    return out


def keep_top_k(logits_BV: Floats, k: int) -> Floats:
    """Top-k sampling: keep the k greatest of each row, and logits equal to the least of these. Fan et al. 2018."""
    k = min(k, logits_BV.shape[1])
    return _where(logits_BV, logits_BV >= np.partition(logits_BV, -k)[:, -k, None])


def keep_top_p(logits_BV: Floats, p: float, *, least: int = 1) -> Floats:
    """Nucleus sampling: drop the least probable tokens, up to 1 − p in all. Holtzman et al. 2020.

    At least `least` tokens stay.
    """
    order = np.argsort(logits_BV, axis=-1, kind="stable")
    ascending = softmax(np.take_along_axis(logits_BV, order, axis=-1))
    kept = np.cumsum(ascending, axis=-1, dtype=np.float64) > 1 - p
    kept[:, -least:] = True
    mask = np.empty_like(kept)
    np.put_along_axis(mask, order, kept, axis=-1)
    return _where(logits_BV, mask)


def keep_min_p(logits_BV: Floats, p: float, *, least: int = 1) -> Floats:
    """Min-p sampling: keep tokens with at least p of the best probability, and the `least` best. Nguyen et al. 2024."""
    probabilities = softmax(logits_BV)
    kept = probabilities >= np.float32(p) * probabilities.max(axis=-1, keepdims=True)
    if least > 1:
        np.put_along_axis(kept, np.argsort(-logits_BV, axis=-1, kind="stable")[:, :least], True, axis=-1)
    return _where(logits_BV, kept)


def softmax(logits_BV: Floats) -> Floats:
    """Compute the probabilities of each row: (B, V) → (B, V)."""
    exponentials = np.exp(logits_BV - logits_BV.max(axis=-1, keepdims=True))
    probabilities: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def _where(logits_BV: Floats, kept: Rows) -> Floats:
    return np.where(kept, logits_BV, np.float32(-np.inf))
