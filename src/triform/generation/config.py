"""How to generate: the settings of the field by their names there, each with what it may be."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

from triform.errors import InputError, UnsupportedModelError, shown
from triform.generation.sequence import FinishReason, Limit
from triform.hub import Checkpoint

MAX_NEW_TOKENS = 256
"""Where neither the caller nor the checkpoint sets a limit, as in the pipelines of the field."""

NOT_IMPLEMENTED: Mapping[str, Any] = {
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "force_words_ids": None,
    "sequence_bias": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "typical_p": 1.0,
    "top_h": None,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "penalty_alpha": None,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "remove_invalid_values": False,
    "watermarking_config": None,
    "dola_layers": None,
}
"""Settings of the field that change answers and that this version lacks, with the values at which they do not."""


class ContextEnd(StrEnum):
    """What to do about new tokens for which the model's context has no room."""

    ERROR = "error"
    """Refuse a limit that the caller sets beyond it; a limit that nobody set ends there."""
    STOP = "stop"
    """End there, whoever set the limit; the answer says so."""
    SLIDE = "slide"
    """Go on: whenever the context is full, all but its last half is forgotten, and that is read anew."""


MAX_WHOLE = 2**1000
"""Whole numbers beyond float64 cannot be compared with it."""


class Rule(NamedTuple):
    """What a setting may be."""

    expected: str
    accepts: Callable[[Any], bool]


def number(expected: str, accepts: Callable[[float], bool] = lambda value: True) -> Rule:
    """A finite number of a certain range."""

    def is_one(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        if isinstance(value, Integral) and abs(int(value)) > MAX_WHOLE:
            return False
        return math.isfinite(value) and accepts(float(value))

    return Rule(expected, is_one)


def at_least(minimum: int, maximum: int = 2**31 - 1) -> Rule:
    """A whole number."""

    def is_one(value: Any) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and minimum <= int(value) <= maximum

    return Rule(f"a whole number of at least {minimum} and at most {maximum}", is_one)


MAX_BEAMS, MAX_ANSWERS = 1000, 10_000
"""Each sequence has a cache of its own, so that a slip of the pen would fill any memory."""

TOKEN = Rule("the id of a token", at_least(0).accepts)
TOKENS = Rule(
    "the id of a token, or a list of them", lambda value: isinstance(value, tuple) and all(map(TOKEN.accepts, value))
)
BAD_WORDS = Rule(
    "a list of lists of token ids",
    lambda value: isinstance(value, tuple) and all(word and all(map(TOKEN.accepts, word)) for word in value),
)
TEXTS = Rule(
    "a text, or a list of them, none empty",
    lambda value: isinstance(value, tuple) and all(isinstance(text, str) and text for text in value),
)
CONTEXT_END = Rule(f"one of {', '.join(ContextEnd)}", lambda value: value in tuple(ContextEnd))
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
EARLY_STOPPING = Rule('true, false or "never"', lambda value: isinstance(value, bool) or value == "never")


def setting(default: Any, rule: Rule) -> Any:
    """A field that the caller and the checkpoint may set; None leaves it at its default."""
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """What generation needs to know beside the model.

    Raises:
        InputError: a setting that is impossible, alone or beside another.
    """

    max_new_tokens: int | None = setting(None, at_least(1))
    """Most tokens to add to a sequence; goes before `max_length`."""
    max_length: int | None = setting(None, at_least(1))
    """The same, counting the prompt, or a decoder's start token."""
    min_new_tokens: int | None = setting(None, at_least(0))
    """So many tokens before an end token may come; goes before `min_length`."""
    min_length: int = setting(0, at_least(0))
    """The same, counting the prompt, or a decoder's start token."""
    eos_token_id: tuple[int, ...] = setting((), TOKENS)
    """Any of these ends a sequence."""
    stop_strings: tuple[str, ...] = setting((), TEXTS)
    """A sequence ends once one of these stands in what has followed."""
    max_time: float | None = setting(None, number("a number of seconds greater than 0", lambda value: value > 0))
    """All sequences end with the step in which so many seconds have passed."""
    at_context_end: ContextEnd = setting(ContextEnd.ERROR, CONTEXT_END)
    """What to do about new tokens for which the model's context has no room."""
    decoder_start_token_id: int | None = setting(None, TOKEN)
    """What a decoder with an encoder begins with."""

    forced_bos_token_id: int | None = setting(None, TOKEN)
    """The token behind a lone first one."""
    forced_eos_token_id: tuple[int, ...] = setting((), TOKENS)
    """The last token where the limit ends a sequence."""
    suppress_tokens: tuple[int, ...] = setting((), TOKENS)
    """Tokens that never come."""
    bad_words_ids: tuple[tuple[int, ...], ...] = setting((), BAD_WORDS)
    """Runs of tokens that never come whole; one that is an end token alone is no such run."""
    begin_suppress_tokens: tuple[int, ...] = setting((), TOKENS)
    """Tokens that do not come first."""
    repetition_penalty: float = setting(1.0, number("a number greater than 0", lambda value: value > 0))
    """Divides the positive logits of tokens seen before, and multiplies the negative ones. Keskar et al. 2019."""
    no_repeat_ngram_size: int = setting(0, at_least(0))
    """Runs of so many tokens come only once; 0 for no such rule."""

    do_sample: bool = setting(False, SWITCH)
    """Whether to draw the next token by its probability, in place of taking the best."""
    temperature: float = setting(1.0, number("a number greater than 0", lambda value: value > 0))
    """Divides the logits."""
    top_k: int = setting(50, at_least(0))
    """Draw among so many of the best tokens; 0 for all."""
    top_p: float = setting(1.0, number("a number greater than 0 and at most 1", lambda value: 0 < value <= 1))
    """Draw among the best tokens whose probabilities together reach this. Holtzman et al. 2020."""
    min_p: float | None = setting(None, number("a number from 0 to 1", lambda value: 0 <= value <= 1))
    """Draw among tokens at least so probable, as a share of the best one's. Nguyen et al. 2024."""
    seed: int | None = setting(None, at_least(0, 2**64))
    """The same seed draws the same tokens; None is another one each time."""

    num_beams: int = setting(1, at_least(1, MAX_BEAMS))
    """How many beginnings of each answer to keep in view; 1 is no beam search."""
    length_penalty: float = setting(1.0, number("a number"))
    """A beam's log-probability is divided by its length to this power."""
    early_stopping: bool | Literal["never"] = setting(False, EARLY_STOPPING)
    """Whether to stop at `num_beams` whole answers, when better ones are unlikely, or ("never") impossible."""
    renormalize_logits: bool = setting(False, SWITCH)
    """Whether probabilities add up to 1 again once settings have taken tokens away, before beams are compared."""
    num_return_sequences: int = setting(1, at_least(1, MAX_ANSWERS))
    """How many answers to each prompt."""

    given: frozenset[str] = frozenset()
    """Which settings come from the caller."""

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            value = getattr(self, name)
            if value is not None and not rule.accepts(value):
                raise InputError(f"{name}={shown(value)}: expected {rule.expected}.")
        if self.num_return_sequences > self.num_beams and not self.do_sample:
            raise InputError(
                f"num_return_sequences={self.num_return_sequences}: expected at most num_beams={self.num_beams}, "
                "since each beam gives one answer. Raise num_beams, or set do_sample=True."
            )
        if self.max_new_tokens is not None and (self.min_new_tokens or 0) > self.max_new_tokens:
            raise InputError(
                f"min_new_tokens={self.min_new_tokens}: expected at most max_new_tokens={self.max_new_tokens}."
            )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "GenerationConfig":
        """A checkpoint's settings: generation_config.json, or the older keys of config.json.

        Raises:
            UnsupportedModelError: it asks for something that this version lacks, or that is impossible.
        """
        config = checkpoint.read_object("config.json")
        # Older checkpoints keep their settings among the config's keys.
        name = "generation_config.json" if checkpoint.has("generation_config.json") else "config.json"
        own = {key: value for key, value in checkpoint.read_object(name).items() if value is not None}
        where = checkpoint.folder / name
        for key, neutral in NOT_IMPLEMENTED.items():
            if own.get(key, neutral) not in (neutral, []):
                raise UnsupportedModelError(
                    f"{where}: {key} = {own[key]!r} changes the answers, and this version does not implement it. "
                    "To generate without it, take it out of a copy of the file."
                )
        for key in ("eos_token_id", "decoder_start_token_id", "bos_token_id"):
            own.setdefault(key, config.get(key))
        if own["decoder_start_token_id"] is None:
            own["decoder_start_token_id"] = own["bos_token_id"]
        try:
            return cls(**_settings({key: own[key] for key in own if key in _RULES}))
        except InputError as error:
            raise UnsupportedModelError(f"{where}: {error} To generate, mend it in a copy of the file.") from error

    def updated(self, settings: Mapping[str, Any]) -> "GenerationConfig":
        """These settings, and the caller's over them; None leaves a setting as it is.

        Raises:
            InputError: an unknown or impossible setting, or one that would do nothing.
        """
        for name in settings:
            if name in NOT_IMPLEMENTED:
                raise InputError(f"{name} is not implemented in this version.")
            if name not in _RULES:
                raise InputError(f"generate has no setting {name}. It has {', '.join(_RULES)}.")
        chosen = _settings(settings)
        # A limit of one kind goes before the checkpoint's limit of the other.
        for name, other in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if name in chosen:
                chosen.setdefault(other, None)
        updated = replace(self, **chosen, given=self.given | {name for name in chosen if chosen[name] is not None})
        updated._check_use()
        return updated

    def limit(self, prompt_length: int, context_length: int | None) -> Limit:
        """How many tokens may follow a prompt.

        The caller's wish goes first, then the checkpoint's, then `MAX_NEW_TOKENS`.

        Raises:
            InputError: the caller's limit leads beyond the context and `at_context_end` refuses that, or it leaves no
                token.
        """
        is_callers = bool(self.given & {"max_new_tokens", "max_length"})
        limit = self.max_new_tokens
        if limit is None and self.max_length is not None:
            limit = self.max_length - prompt_length
        if is_callers and limit is not None and limit < 1:
            raise InputError(f"max_length={self.max_length}: expected more than a prompt's {prompt_length} tokens.")
        limit = limit if limit is not None and limit > 0 else MAX_NEW_TOKENS
        room = math.inf if context_length is None else context_length - prompt_length
        if limit <= room or self.at_context_end is ContextEnd.SLIDE:
            return Limit(num_tokens=limit)
        if is_callers and self.at_context_end is ContextEnd.ERROR:
            raise InputError(
                f"A prompt of {prompt_length} tokens and {limit} new ones are more than the model's context of "
                f"{context_length}. Shorten the prompt, ask for at most {room} new tokens, or set at_context_end to "
                '"stop" or "slide".'
            )
        # The last token of a full context has logits too.
        return Limit(num_tokens=max(1, int(room)), reason=FinishReason.CONTEXT)

    def least(self, prompt_length: int) -> int:
        """How many tokens must follow a prompt before one may end it."""
        return self.min_length - prompt_length if self.min_new_tokens is None else self.min_new_tokens

    @property
    def changes_logits(self) -> bool:
        """Whether some setting changes which token is the best."""
        return bool(
            self.min_new_tokens
            or self.min_length
            or self.forced_bos_token_id is not None
            or self.forced_eos_token_id
            or self.suppress_tokens
            or self.bad_words_ids
            or self.begin_suppress_tokens
            or self.repetition_penalty != 1
            or self.no_repeat_ngram_size
        )

    def _check_use(self) -> None:
        """Refuse what the caller sets in vain."""
        if not self.do_sample and (vain := self.given & {"temperature", "top_k", "top_p", "min_p"}):
            raise InputError(f"{', '.join(sorted(vain))}: of no use without do_sample=True.")
        if self.num_beams == 1 and (vain := self.given & {"length_penalty", "early_stopping"}):
            raise InputError(f"{', '.join(sorted(vain))}: of no use without num_beams greater than 1.")


_RULES: Mapping[str, Rule] = {
    known.name: known.metadata["rule"] for known in fields(GenerationConfig) if "rule" in known.metadata
}


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the fields hold them: those set, and ids as tuples."""
    return {name: _held(_RULES[name], value) for name, value in values.items() if value is not None}


def _held(rule: Rule, value: Any) -> Any:
    if rule is TOKENS:
        return tuple(value if isinstance(value, list | tuple) else [value])
    if rule is TEXTS:
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    if rule is BAD_WORDS and isinstance(value, list | tuple):
        return tuple(tuple(word) if isinstance(word, list | tuple) else (word,) for word in value)
    if rule is CONTEXT_END and value in tuple(ContextEnd):
        return ContextEnd(value)
    return value
