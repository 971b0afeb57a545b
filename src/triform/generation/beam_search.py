"""Beam search: the most probable answers, by keeping several beginnings in view. Sutskever et al. 2014, section 3.2.

Scores, length penalty and the rules for stopping are those of transformers 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from triform.engines import Integers
from triform.generation.config import GenerationConfig
from triform.generation.decoding import Decoding
from triform.generation.processors import Floats, check_left, log_softmax, process, warp
from triform.generation.sampling import draw_several, sequence_keys
from triform.generation.sequence import Completion, FinishReason, GrowingSequence
from triform.generation.stopping import Stopping

OUT_OF_THE_RACE = np.float32(-1e9)
"""Added to the score of a beam that must not be chosen while there is another."""


@dataclass(slots=True)
class Beams:
    """The beams of one prompt."""

    growing: list[GrowingSequence]
    """`num_beams` of them, the best first."""
    key: int
    """For whatever is drawn."""
    scores: Floats
    """(num_beams,) their log-probabilities."""
    finished: list[Completion] = field(default_factory=list)
    """At most `num_beams`, the best first."""
    is_done: bool = False

    def advance(self, own: Floats, config: GenerationConfig, stopping: Stopping, *, out_of_time: bool) -> Integers:
        """Choose the beams that go on, and keep those that are whole.

        Arguments:
            own: (num_beams, V) log-probabilities of each beam's next token, as the model gave them.
            config: the settings.
            stopping: what ends a sequence.
            out_of_time: whether all end with this token.

        Returns:
            (num_beams,) which of the beams each of the new ones continues; their last ids are the new tokens.

        Raises:
            InputError: the settings leave no token to choose.
        """
        scores = (self._weigh(own, config) + self.scores[:, None]).reshape(-1)
        candidates = self._candidates(scores, config)
        parents, tokens = np.divmod(candidates, own.shape[1])
        longer = [self._lengthened(*each, own) for each in zip(parents.tolist(), tokens.tolist(), strict=True)]
        reasons = [stopping.reason(each, out_of_time=out_of_time) for each in longer]
        self._finish(longer[: config.num_beams], scores[candidates], reasons, config)
        ends = np.array([reason is not None for reason in reasons])
        running = scores[candidates] + np.where(ends, OUT_OF_THE_RACE, np.float32(0))
        going = top(running, config.num_beams)
        self.growing = [longer[place] for place in going]
        self.scores = running[going]
        self.is_done = out_of_time or self.growing[0].is_at_limit or not self._can_improve(config)
        return parents[going]

    def _weigh(self, own: Floats, config: GenerationConfig) -> Floats:
        """The log-probabilities of the next tokens, as the settings change them."""
        log_probs = process(own, self.growing, config)
        # One beam may come to an end of its own; a prompt needs one that goes on.
        check_left(log_probs.reshape(1, -1))
        if config.do_sample:
            log_probs = warp(log_probs, config)
        return log_softmax(log_probs) if config.renormalize_logits else log_probs

    def _candidates(self, scores: Floats, config: GenerationConfig) -> Integers:
        """Places in (num_beams · V,) scores: as many as can end at once, and enough to go on with."""
        count = min(max(2, 1 + len(config.eos_token_id)) * config.num_beams, len(scores))
        if not config.do_sample:
            return top(scores, count)
        return draw_several(scores, count, key=self.key, step=self.growing[0].num_new)

    def _finish(
        self,
        candidates: Sequence[GrowingSequence],
        scores: Floats,
        reasons: Sequence[FinishReason | None],
        config: GenerationConfig,
    ) -> None:
        """Of the `num_beams` best candidates those that have ended are answers, unless better ones are known."""
        for whole, score, reason in zip(candidates, scores, reasons, strict=False):
            if reason is not None:
                self.finished.append(
                    Completion(
                        ids=whole.new_ids,
                        finish_reason=reason,
                        log_probabilities=whole.log_probabilities,
                        score=float(score / np.float32(whole.num_new**config.length_penalty)),
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
        return worst is None or bool(self.scores[0] / np.float32(length**config.length_penalty) > worst)

    def _lengthened(self, parent: int, token: int, own: Floats) -> GrowingSequence:
        old = self.growing[parent]
        known = [*old.log_probabilities, float(own[parent, token])]
        return replace(old, ids=[*old.ids, token], log_probabilities=known)


def beam_search(decoding: Decoding, config: GenerationConfig, stopping: Stopping) -> list[Completion]:
    """The best `num_return_sequences` answers to each prompt, those to the first prompt first.

    The beams of a prompt share its cross keys and values, and the pages of their common beginning. With sampling the
    candidates of a step are drawn by their probability among those of all beams.

    Raises:
        NonFiniteError: the logits are not finite.
        InputError: the settings leave no token to choose.
    """
    with decoding.running():
        keys = sequence_keys(decoding.batch, 1, config.seed)
        growing, logits = decoding.begin(config.num_beams)
        # At first all beams are the same, so that only one of them may be continued.
        scores = np.append(np.float32(0), np.full(config.num_beams - 1, OUT_OF_THE_RACE)).astype(np.float32)
        prompts = [
            Beams(growing[first : first + config.num_beams], key, scores)
            for first, key in zip(range(0, len(growing), config.num_beams), keys, strict=True)
        ]
        active = prompts
        while True:
            own = log_softmax(decoding.engine.to_numpy(logits)).reshape(len(active), config.num_beams, -1)
            out_of_time = stopping.is_out_of_time()
            parents = [
                beams.advance(log_probs, config, stopping, out_of_time=out_of_time)
                for beams, log_probs in zip(active, own, strict=True)
            ]
            going = [place for place, beams in enumerate(active) if not beams.is_done]
            if not going:
                return [whole for beams in prompts for whole in beams.finished[: config.num_return_sequences]]
            decoding.keep(np.concatenate([parents[place] + place * config.num_beams for place in going]))
            active = [active[place] for place in going]
            logits = decoding.advance([beam for beams in active for beam in beams.growing])


def top(scores: Floats, k: int) -> Integers:
    """Where the k greatest stand, greatest first, the lower index first among equals, without sorting all."""
    at_least = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return at_least[np.argsort(-scores[at_least], kind="stable")[:k]]
