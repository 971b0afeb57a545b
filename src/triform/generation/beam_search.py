"""Beam search finds the most probable answers by keeping several hypotheses. Sutskever et al. 2014, section 3.2.

Scores, length penalty and the rules for stopping are those of transformers 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from triform.engines import Array, Engine
from triform.generation.choice import check_finite
from triform.generation.config import GenerationConfig
from triform.generation.processors import Floats, check_left, process, warp
from triform.generation.sampling import draw_several
from triform.generation.sequence import Completion, FinishReason, GrowingSequence
from triform.generation.stopping import Stopping

OUT_OF_THE_RACE = -1e9
"""Penalty for a beam to choose only if no other beam is left."""


class Candidate(NamedTuple):
    """A candidate for the next token of a beam."""

    parent: int
    """Number of the beam."""
    token: int
    log_probability: float
    """Log-probability of the token, before any setting changed it."""
    score: float
    """Score of the beam with this token, after the settings changed it."""


@dataclass(slots=True)
class Beams:
    """The beams of a prompt."""

    growing: list[GrowingSequence]
    """`num_beams` sequences, the best first."""
    key: int
    """Random key, for sampling."""
    scores: list[float]
    """(num_beams,) log-probabilities of the beams."""
    finished: list[Completion] = field(default_factory=list)
    """At most `num_beams` answers, the best first."""
    is_done: bool = False

    @classmethod
    def of_prompt(cls, growing: list[GrowingSequence], key: int) -> "Beams":
        """Begin with equal beams. All but the first get a penalty, so the first step continues only the first."""
        return cls(growing, key, [0.0, *[OUT_OF_THE_RACE] * (len(growing) - 1)])

    def advance(
        self, candidates: Sequence[Candidate], config: GenerationConfig, stopping: Stopping, *, out_of_time: bool
    ) -> list[int]:
        """Choose the next beams, and store the finished ones.

        Arguments:
            candidates: the best first.
            config: the settings.
            stopping: the rules that end a sequence.
            out_of_time: whether all sequences end with this token.

        Returns:
            (num_beams,) the number of the old beam that each new beam continues.
        """
        parents = self.growing
        reasons = [stopping.reason(parents[each.parent], each.token, out_of_time=out_of_time) for each in candidates]
        self._finish(candidates, reasons, config)
        running = [
            each.score if reason is None else each.score + OUT_OF_THE_RACE
            for each, reason in zip(candidates, reasons, strict=True)
        ]
        going = sorted(range(len(running)), key=lambda place: -running[place])[: config.num_beams]
        chosen = [candidates[place] for place in going]
        self.growing = [parents[each.parent].lengthened(each.token, each.log_probability) for each in chosen]
        self.scores = [running[place] for place in going]
        self.is_done = out_of_time or self.growing[0].is_at_limit or not self._can_improve(config)
        return [each.parent for each in chosen]

    def _finish(
        self, candidates: Sequence[Candidate], reasons: Sequence[FinishReason | None], config: GenerationConfig
    ) -> None:
        """Store the ended candidates among the `num_beams` best; keep the `num_beams` best answers."""
        for each, reason in zip(candidates[: config.num_beams], reasons, strict=False):
            if reason is not None:
                whole = self.growing[each.parent].lengthened(each.token, each.log_probability)
                self.finished.append(
                    Completion(
                        ids=whole.new_ids,
                        finish_reason=reason,
                        log_probabilities=whole.log_probabilities,
                        score=_penalized(each.score, whole.num_new, config),
                    )
                )
        self.finished.sort(key=lambda each: -(each.score or 0))
        del self.finished[config.num_beams :]

    def _can_improve(self, config: GenerationConfig) -> bool:
        """Check whether a growing beam can still become an answer; with a length penalty this is a heuristic."""
        if len(self.finished) < config.num_beams:
            return True
        if config.early_stopping is True:
            return False
        best = self.growing[0]
        hopes_for_length = config.early_stopping == "never" and config.length_penalty > 0
        length = best.limit.num_tokens if hopes_for_length else best.num_new
        worst = self.finished[-1].score
        return worst is None or _penalized(self.scores[0], length, config) > worst


def best_candidates(
    engine: Engine, logits_BV: Array, prompts: Sequence[Beams], config: GenerationConfig
) -> list[list[Candidate]]:
    """Find the best candidates of each prompt, best first: (P · num_beams, V) logits → P lists.

    There are enough candidates for `num_beams` beams to continue even if each beam meets every end token.

    Raises:
        NonFiniteError: the logits are not finite.
        InputError: the settings leave no token to choose.
    """
    scores_PM = np.array([beams.scores for beams in prompts], np.float32)
    count = max(2, 1 + len(config.eos_token_id)) * config.num_beams
    if config.changes_logits or config.do_sample:
        check_finite(engine.all_finite(logits_BV))
        known_BV = engine.to_numpy(engine.log_softmax(logits_BV))
        weighed_BV = _weigh(engine, known_BV, prompts, config)
        if config.do_sample:
            return _drawn(known_BV, weighed_BV, scores_PM, prompts, count)
        weights, tokens = engine.top_k(engine.asarray(weighed_BV), count)
        known = np.take_along_axis(known_BV, tokens, axis=1)
    else:
        known, tokens = engine.top_log_probabilities(logits_BV, count)
        check_finite(not np.isnan(known).any())
        weights = known
    # Merge the best of each beam to the best of the prompt. On equal scores, the better beam comes first.
    num_prompts, width = len(prompts), tokens.shape[1]
    sums = weights.reshape(num_prompts, -1) + np.repeat(scores_PM, width, axis=1)
    places = np.argsort(-sums, axis=1, kind="stable")[:, :count]
    columns = [
        np.take_along_axis(each.reshape(num_prompts, -1), places, axis=1).tolist() for each in (tokens, known, sums)
    ]
    return [list(map(Candidate, *own)) for own in zip((places // width).tolist(), *columns, strict=True)]


def _weigh(engine: Engine, known_BV: Floats, prompts: Sequence[Beams], config: GenerationConfig) -> Floats:
    """Apply the settings to the log-probabilities of the next tokens: (B, V) → (B, V)."""
    weighed_BV = process(known_BV, [each for beams in prompts for each in beams.growing], config)
    # A single beam may have no token left; a prompt needs at least one.
    check_left(weighed_BV.reshape(len(prompts), -1))
    if config.do_sample:
        weighed_BV = warp(weighed_BV, config)
    if config.renormalize_logits:
        weighed_BV = engine.to_numpy(engine.log_softmax(engine.asarray(weighed_BV)))
    return weighed_BV


def _drawn(
    known_BV: Floats, weighed_BV: Floats, scores_PM: Floats, prompts: Sequence[Beams], count: int
) -> list[list[Candidate]]:
    """Sample candidates by probability from all beams of a prompt, in the order of drawing."""
    candidates = []
    sums_PMV = weighed_BV.reshape(*scores_PM.shape, -1) + scores_PM[:, :, None]
    known_PMV = known_BV.reshape(sums_PMV.shape)
    for beams, known, sums in zip(prompts, known_PMV, sums_PMV, strict=True):
        places = draw_several(sums.reshape(-1), count, key=beams.key, step=beams.growing[0].num_new)
        parents, tokens = np.divmod(places, sums.shape[1])
        columns = (parents, tokens, known[parents, tokens], sums[parents, tokens])
        candidates.append(list(map(Candidate, *(column.tolist() for column in columns))))
    return candidates


def _penalized(score: float, length: int, config: GenerationConfig) -> float:
    """Divide a score by length^length_penalty, in float32 as the reference implementation does."""
    with np.errstate(over="ignore", divide="ignore"):  # an enormous penalty makes all scores equal
        return float(np.float32(score) / np.float32(np.float64(length) ** config.length_penalty))
