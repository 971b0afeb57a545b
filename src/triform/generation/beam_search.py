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
"""Added to the score of a beam that must not be chosen while there is another."""


class Candidate(NamedTuple):
    """A token that may follow one of the beams of a prompt."""

    parent: int
    """Which of the beams."""
    token: int
    log_probability: float
    """Of the token, as the model gave it."""
    score: float
    """Of the beam with this token, as the settings change it."""


@dataclass(slots=True)
class Beams:
    """The beams of one prompt."""

    growing: list[GrowingSequence]
    """`num_beams` of them, the best first."""
    key: int
    """For whatever is drawn."""
    scores: list[float]
    """(num_beams,) their log-probabilities."""
    finished: list[Completion] = field(default_factory=list)
    """At most `num_beams`, the best first."""
    is_done: bool = False

    @classmethod
    def of_prompt(cls, growing: list[GrowingSequence], key: int) -> "Beams":
        """Begin with equal beams, of which only the first may be continued."""
        return cls(growing, key, [0.0, *[OUT_OF_THE_RACE] * (len(growing) - 1)])

    def advance(
        self, candidates: Sequence[Candidate], config: GenerationConfig, stopping: Stopping, *, out_of_time: bool
    ) -> list[int]:
        """Choose the beams that go on, and keep those that are whole.

        Arguments:
            candidates: the best first.
            config: the settings.
            stopping: what ends a sequence.
            out_of_time: whether all end with this token.

        Returns:
            (num_beams,) which of the beams each of the new ones continues; their last ids are the new tokens.
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
        """Of the `num_beams` best candidates those that have ended are answers, unless better ones are known."""
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
        """Whether a growing beam could still become one of the answers; with a length penalty, a guess."""
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
    """For each prompt as many candidates as can end at once, and enough to go on with: the best first.

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
    # Of each beam the best are known; of these, the best of all. Among equals, the better beam's come first.
    num_prompts, width = len(prompts), tokens.shape[1]
    sums = weights.reshape(num_prompts, -1) + np.repeat(scores_PM, width, axis=1)
    places = np.argsort(-sums, axis=1, kind="stable")[:, :count]
    columns = [
        np.take_along_axis(each.reshape(num_prompts, -1), places, axis=1).tolist() for each in (tokens, known, sums)
    ]
    return [list(map(Candidate, *own)) for own in zip((places // width).tolist(), *columns, strict=True)]


def _weigh(engine: Engine, known_BV: Floats, prompts: Sequence[Beams], config: GenerationConfig) -> Floats:
    """The log-probabilities of the next tokens, as the settings change them."""
    weighed_BV = process(known_BV, [each for beams in prompts for each in beams.growing], config)
    # One beam may come to an end of its own; a prompt needs one that goes on.
    check_left(weighed_BV.reshape(len(prompts), -1))
    if config.do_sample:
        weighed_BV = warp(weighed_BV, config)
    if config.renormalize_logits:
        weighed_BV = engine.to_numpy(engine.log_softmax(engine.asarray(weighed_BV)))
    return weighed_BV


def _drawn(
    known_BV: Floats, weighed_BV: Floats, scores_PM: Floats, prompts: Sequence[Beams], count: int
) -> list[list[Candidate]]:
    """Candidates drawn by their probability among those of all beams, in the order in which they were drawn."""
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
    """In float32, as the reference implementation compares them."""
    return float(np.float32(score) / np.float32(length**config.length_penalty))
