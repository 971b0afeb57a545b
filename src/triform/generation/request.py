"""A request: a prompt, its settings and its answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from triform.errors import InputError, TriformError, shown
from triform.generation.beam_search import Beams, Candidate
from triform.generation.config import ContextEnd, GenerationConfig
from triform.generation.rules import at_least
from triform.generation.sampling import sequence_keys
from triform.generation.sequence import Alternatives, Completion, FinishReason, GrowingSequence, Limit
from triform.generation.stopping import Stopping
from triform.inputs import Batch

if TYPE_CHECKING:
    from triform.generation.grammar import Grammar

MAX_ALTERNATIVES = 20
"""Most alternatives to a token."""


class GeneratedToken(NamedTuple):
    """The next token of a sequence."""

    sequence: int
    """Number of the sequence in its call: prompt · num_return_sequences + answer."""
    id: int
    log_probability: float | None = None
    """Log-probability of the token, before any setting changed it; None unless requested."""
    finish_reason: FinishReason | None = None
    """Reason for the end of the sequence, with the last token; else None."""
    alternatives: Alternatives = ()
    """The most probable tokens at this place; empty unless requested."""


@dataclass(eq=False, kw_only=True, slots=True)
class Request:
    """A prompt, and the state of its `num_return_sequences` answers.

    A request reads the prompt once (prefill) and then branches: into independently sampled answers, or into beams.
    Branches decode in the same steps and share the pages of their common tokens.
    """

    prompt: Sequence[int]
    """Ids at the beginning of the decoder; the start token for an encoder-decoder."""
    source: Batch | None = None
    """A batch of one sequence for the encoder, in an encoder-decoder."""
    config: GenerationConfig
    stopping: Stopping
    keys: Sequence[int]
    """Random key of each answer; all beams use the first."""
    limit: Limit
    number: int = 0
    """Number of the first answer, for `GeneratedToken.sequence`."""
    log_probabilities: bool = False
    """Whether tokens and completions have log-probabilities."""
    num_alternatives: int = 0
    """Number of alternatives to each token."""
    grammar: "Grammar | None" = None
    """The grammar of every answer."""

    sequences: list[GrowingSequence] = field(init=False)
    """The unfinished branches, one row of the KV cache each."""
    beams: Beams | None = field(default=None, init=False)
    """The state of beam search, after the prompt is read."""
    tokens: list[GeneratedToken] = field(default_factory=list, init=False)
    """Generated tokens not yet taken by the caller."""
    error: TriformError | None = field(default=None, init=False)
    """The error of a failed request."""
    num_cached_tokens: int = field(default=0, init=False)
    """Tokens of the prompt found in the prefix cache."""
    is_finished: bool = field(default=False, init=False)
    order: int = field(default=0, init=False)
    """Place in the order of arrival, set by the scheduler."""
    rule: GenerationConfig = field(init=False)
    """The settings for the choice of a token. The scheduler makes equal rules the same object."""
    page_keys: list[bytes] = field(default_factory=list, init=False)
    """Keys of the full pages of the prompt, set by the scheduler."""
    _has_branched: bool = field(default=False, init=False)
    _completions: dict[int, Completion] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.rule = choice_rule(self.config)
        self.sequences = [GrowingSequence(list(self.prompt), len(self.prompt), self.limit)]
        if self.grammar is not None:
            self.sequences[0].matcher = self.grammar.matcher()

    @property
    def num_branches(self) -> int:
        """Count the branches of the prompt: beams, or answers."""
        return self.config.num_beams if self.config.num_beams > 1 else self.config.num_return_sequences

    @property
    def completions(self) -> list[Completion]:
        """Return the finished answers, in order."""
        done = [self._completions[answer] for answer in sorted(self._completions)]
        return done if self.log_probabilities else [replace(each, log_probabilities=None) for each in done]

    @property
    def is_unread(self) -> bool:
        """Check whether the prompt still has unread tokens (prefill)."""
        return not self._has_branched

    @property
    def slides(self) -> bool:
        """Check whether the sequences slide at the end of the context."""
        return self.config.at_context_end is ContextEnd.SLIDE

    @property
    def num_source_tokens(self) -> int:
        """Count the tokens of the source."""
        return 0 if self.source is None else len(self.source.ids)

    def branch(self) -> None:
        """Copy the sequence of the prompt for each answer or beam."""
        [prompt] = self.sequences
        self._has_branched = True
        is_search = self.config.num_beams > 1
        self.sequences = [prompt.copy(0 if is_search else answer) for answer in range(self.num_branches)]
        if is_search:
            self.beams = Beams.of_prompt(self.sequences, self.keys[0])

    def add_token(
        self,
        sequence: GrowingSequence,
        token: int,
        log_probability: float,
        alternatives: Alternatives = (),
        *,
        out_of_time: bool,
    ) -> FinishReason | None:
        """Append the next token of a branch, and return the reason if the token is the last."""
        reason = self.stopping.reason(sequence, token, out_of_time=out_of_time)
        if sequence.matcher is not None and reason is not FinishReason.STOP:
            is_forced = len(sequence.ids) == 1 and token == self.rule.forced_bos_token_id
            if not is_forced and sequence.matcher.accept(token):
                reason = FinishReason.STOP
        sequence.ids.append(token)
        sequence.log_probabilities.append(log_probability)
        if self.num_alternatives:
            sequence.alternatives.append(alternatives)
        known = log_probability if self.log_probabilities else None
        self.tokens.append(GeneratedToken(self.number + sequence.answer, token, known, reason, alternatives))
        if reason is not None:
            self._completions[sequence.answer] = Completion(
                ids=sequence.new_ids,
                finish_reason=reason,
                log_probabilities=sequence.log_probabilities,
                alternatives=sequence.alternatives,
            )
        return reason

    def keep_branches(self, places: Sequence[int]) -> None:
        """Keep the branches at these places; the others have had their last token."""
        self.sequences = [self.sequences[place] for place in places]
        self.is_finished = not places

    def add_candidates(self, candidates: Sequence[Candidate], *, out_of_time: bool) -> list[int]:
        """Choose the next beams among candidates, best first, and return the parent of each beam."""
        beams = self.beams
        assert beams is not None, "only beams have candidates"
        parents = beams.advance(candidates, self.config, self.stopping, out_of_time=out_of_time)
        self.sequences = beams.growing
        if beams.is_done:
            self._completions = dict(enumerate(beams.finished[: self.config.num_return_sequences]))
            self.sequences, self.is_finished, parents = [], True, []
        return parents

    def take_tokens(self) -> list[GeneratedToken]:
        """Return the tokens generated since the last call."""
        tokens, self.tokens = self.tokens, []
        return tokens

    def fail(self, error: TriformError) -> None:
        """End the request with an error."""
        self.error, self.sequences, self.is_finished = error, [], True


def choice_rule(config: GenerationConfig) -> GenerationConfig:
    """Reset the settings without influence on the choice of a token, for example limits."""
    return replace(
        config,
        max_new_tokens=None,
        max_length=None,
        stop_strings=(),
        max_time=None,
        at_context_end=ContextEnd.ERROR,
        decoder_start_token_id=None,
        seed=None,
        num_return_sequences=1,
        given=frozenset(),
        unused=None,
    )


def requests_of(
    batch: Batch,
    config: GenerationConfig,
    stopping: Stopping,
    *,
    context_length: int | None,
    reads_source: bool,
    log_probabilities: bool = False,
    num_alternatives: int = 0,
    grammar: "Grammar | None" = None,
) -> list[Request]:
    """Make a request of each sequence of a batch.

    Arguments:
        batch: prompts, or for an encoder-decoder the sources.
        config: settings, the same for all.
        stopping: rules that end a sequence; all requests share their clock.
        context_length: the context of the decoder, in tokens; None for no limit.
        reads_source: whether the model is an encoder-decoder.
        log_probabilities: whether tokens and completions have log-probabilities.
        num_alternatives: alternatives to each token, at most `MAX_ALTERNATIVES`.
        grammar: the grammar of every answer.

    Raises:
        InputError: the caller's limit leads beyond the context, or the settings do not fit the form of the model.
    """
    check_alternatives(num_alternatives)
    if num_alternatives and config.num_beams > 1:
        raise InputError(
            f"num_alternatives={num_alternatives}: beam search weighs sequences, and has no alternatives to a token. "
            "Set num_beams=1."
        )
    if reads_source and config.at_context_end is ContextEnd.SLIDE:
        raise InputError(
            'at_context_end="slide": the decoder of an encoder-decoder needs its start token in the context. '
            'Set at_context_end="stop".'
        )
    if grammar is not None:
        config = _under_grammar(config)
    num_keys = 1 if config.num_beams > 1 else config.num_return_sequences
    keys = sequence_keys(batch, num_keys, config.seed)
    requests = []
    for place, (begin, end) in enumerate(batch.spans.pairs()):
        prompt = _decoder_start(config) if reads_source else batch.ids[begin:end].tolist()
        request = Request(
            prompt=prompt,
            source=batch.slice(place, place + 1) if reads_source else None,
            config=config,
            stopping=stopping,
            keys=keys[place * num_keys : (place + 1) * num_keys],
            limit=config.limit(len(prompt), context_length),
            number=place * config.num_return_sequences,
            log_probabilities=log_probabilities,
            num_alternatives=num_alternatives,
            grammar=grammar,
        )
        requests.append(request)
    return requests


def _under_grammar(config: GenerationConfig) -> GenerationConfig:
    """Return the settings of answers with a grammar, which alone decides where an answer may end.

    Raises:
        InputError: a setting of the caller that contradicts a grammar.
    """
    if config.num_beams > 1:
        raise InputError(f"num_beams={config.num_beams}: beams cannot follow a grammar. Set num_beams=1.")
    if "forced_eos_token_id" in config.given:
        raise InputError("forced_eos_token_id: a grammar decides where an answer ends. Leave one of them out.")
    return replace(config, forced_eos_token_id=())


def check_alternatives(count: int) -> None:
    """Refuse a number of alternatives that is impossible.

    Raises:
        InputError: not a whole number from 0 to `MAX_ALTERNATIVES`.
    """
    rule = at_least(0, MAX_ALTERNATIVES)
    if not rule.accepts(count):
        raise InputError(f"num_alternatives={shown(count)}: expected {rule.expected}.")


def _decoder_start(config: GenerationConfig) -> list[int]:
    if config.decoder_start_token_id is None:
        raise InputError(
            "The checkpoint does not say what its decoder begins with. "
            "Set decoder_start_token_id in its generation_config.json."
        )
    return [config.decoder_start_token_id]
