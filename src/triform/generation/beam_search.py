"""Beam search: the most probable answers, by keeping several beginnings in view. Sutskever et al. 2014, section 3.2.

Scores, length penalty and the rules for stopping are those of transformers 5.
"""

from dataclasses import dataclass, field

import numpy as np

from triform.engines import Integers
from triform.generation.config import GenerationConfig
from triform.generation.decoding import Decoding
from triform.generation.processors import Floats, GrowingSequence, check_left, log_softmax, process

OUT_OF_THE_RACE = np.float32(-1e9)
"""Added to the score of a beam that must not be chosen while there is another."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A whole answer."""

    ids: list[int]
    """Its new ids, an end token included."""
    score: float
    """Its log-probability, divided by its length to the power of `length_penalty`."""


@dataclass(slots=True)
class Beams:
    """The beams of one prompt."""

    growing: list[GrowingSequence]
    """`num_beams` of them, the best first."""
    scores: Floats
    """(num_beams,) their log-probabilities."""
    finished: list[Hypothesis] = field(default_factory=list)
    """At most `num_beams`, the best first."""
    is_done: bool = False

    def advance(self, log_probs: Floats, config: GenerationConfig) -> Integers:
        """Choose the beams that go on, and keep those that are whole.

        Arguments:
            log_probs: (num_beams, V) of the next token, as the settings have changed them.

        Returns:
            (num_beams,) which of the beams each of the new ones continues; their last ids are the new tokens.
        """
        num_beams, vocab_size = log_probs.shape
        scores = (log_probs + self.scores[:, None]).reshape(-1)
        # As many as can end at once, and enough to go on with.
        candidates = top(scores, min(max(2, 1 + len(config.eos_token_id)) * num_beams, len(scores)))
        parents, tokens = np.divmod(candidates, vocab_size)
        at_limit = self.growing[0].num_new + 1 == self.growing[0].limit
        ends = np.isin(tokens, config.eos_token_id) | at_limit
        self._finish(parents, tokens, scores[candidates], ends, config)
        running = scores[candidates] + np.where(ends, OUT_OF_THE_RACE, np.float32(0))
        going = top(running, num_beams)
        self.growing = [self._lengthened(parents[place], tokens[place]) for place in going]
        self.scores = running[going]
        self.is_done = at_limit or not self._can_improve(config)
        return parents[going]

    def _finish(
        self, parents: Integers, tokens: Integers, scores: Floats, ends: np.ndarray, config: GenerationConfig
    ) -> None:
        """Of the `num_beams` best candidates those that have ended are answers, unless better ones are known."""
        for place in np.flatnonzero(ends[: config.num_beams]):
            whole = self._lengthened(parents[place], tokens[place])
            score = scores[place] / np.float32(whole.num_new**config.length_penalty)
            self.finished.append(Hypothesis(whole.ids[whole.prompt_length :], float(score)))
        self.finished.sort(key=lambda hypothesis: -hypothesis.score)
        del self.finished[config.num_beams :]

    def _can_improve(self, config: GenerationConfig) -> bool:
        """Whether a growing beam could still become one of the answers; with a length penalty, a guess."""
        if len(self.finished) < config.num_beams:
            return True
        if config.early_stopping is True:
            return False
        best = self.growing[0]
        hopes_for_length = config.early_stopping == "never" and config.length_penalty > 0
        length = best.limit if hopes_for_length else best.num_new
        return bool(self.scores[0] / np.float32(length**config.length_penalty) > self.finished[-1].score)

    def _lengthened(self, parent: int, token: int) -> GrowingSequence:
        old = self.growing[parent]
        return GrowingSequence([*old.ids, int(token)], old.prompt_length, old.limit)


def beam_search(decoding: Decoding, config: GenerationConfig) -> list[Hypothesis]:
    """The best `num_return_sequences` answers to each prompt, those to the first prompt first.

    The beams of a prompt share its cross keys and values, and the pages of their common beginning.

    Raises:
        NonFiniteError: the logits are not finite.
        InputError: the settings leave no token to choose.
    """
    num_beams = config.num_beams
    growing, logits = decoding.begin(num_beams)
    # At first all beams are the same, so that only one of them may be continued.
    scores = np.append(np.float32(0), np.full(num_beams - 1, OUT_OF_THE_RACE)).astype(np.float32)
    prompts = [Beams(growing[first : first + num_beams], scores) for first in range(0, len(growing), num_beams)]
    active = prompts
    while True:
        rows = [beam for beams in active for beam in beams.growing]
        processed = process(log_softmax(decoding.engine.to_numpy(logits)), rows, config)
        # One beam may come to an end of its own; a prompt needs one that goes on.
        check_left(processed.reshape(len(active), -1))
        if config.renormalize_logits:
            processed = log_softmax(processed)
        blocks = processed.reshape(len(active), num_beams, -1)
        parents = [beams.advance(block, config) for beams, block in zip(active, blocks, strict=True)]
        going = [place for place, beams in enumerate(active) if not beams.is_done]
        if not going:
            return [hypothesis for beams in prompts for hypothesis in beams.finished[: config.num_return_sequences]]
        decoding.keep(np.concatenate([parents[place] + place * num_beams for place in going]))
        active = [active[place] for place in going]
        logits = decoding.advance([beam.ids[-1] for beams in active for beam in beams.growing])


def top(scores: Floats, k: int) -> Integers:
    """Where the k greatest stand, greatest first, the lower index first among equals, without sorting all."""
    at_least = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return at_least[np.argsort(-scores[at_least], kind="stable")[:k]]
