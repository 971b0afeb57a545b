"""Settings of generation, under the names of transformers, each declared once with default, rule and help."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from triform.errors import ContextLengthError, InputError, shown
from triform.generation.rules import (
    BAD_WORDS,
    BIASES,
    EARLY_STOPPING,
    FACTOR,
    PENALTY,
    PROBABILITY,
    SWITCH,
    TEXTS,
    TOKEN,
    TOKENS,
    Rule,
    at_least,
    number,
)
from triform.generation.sequence import FinishReason, Limit
from triform.hub import Checkpoint

if TYPE_CHECKING:
    from triform.generation.checkpoint_settings import UnusedSettings

MAX_NEW_TOKENS = 256
"""Default limit of new tokens for caller and checkpoint without a limit, as in the pipelines of transformers."""
MAX_CHECKPOINT_TOKENS = 2**17
"""Ceiling of a checkpoint's own limit: a stranger's file does not decide how long a call runs."""
MAX_WITHOUT_CONTEXT = 4096
"""Ceiling of a checkpoint's own limit for a model without a context length, such as T5."""


class ContextEnd(StrEnum):
    """Policy at the end of the model's context."""

    ERROR = "error"
    """Refuse a limit that the caller sets beyond the context; any other limit ends at the context."""
    STOP = "stop"
    """End at the context, even if the caller sets a longer limit, with `FinishReason.CONTEXT`."""
    SLIDE = "slide"
    """Continue: a full context is cut to its last half, and that half is read again."""


MAX_BEAMS, MAX_ANSWERS = 1000, 10_000
"""Limits against typing errors: each sequence needs its own pages of the KV cache."""


CONTEXT_END = Rule(
    f"one of {', '.join(ContextEnd)}",
    lambda value: value in tuple(ContextEnd),
    lambda value: ContextEnd(value) if value in tuple(ContextEnd) else value,
)


class Setting(NamedTuple):
    """Declaration of a setting of generation."""

    name: str
    kind: Any
    """Type of the value."""
    default: Any
    rule: Rule
    help: str
    is_option: bool
    """Whether tasks and the command line have an option of this name; `generate_kwargs` accepts every setting."""
    needs: str | None
    """Required setting: `do_sample`, or `num_beams` greater than 1; None for no requirement."""


def setting(default: Any, rule: Rule, help: str, *, is_option: bool = False, needs: str | None = None) -> Any:
    """Declare a setting, a field of `GenerationConfig`."""
    return field(default=default, metadata={"rule": rule, "help": help, "is_option": is_option, "needs": needs})


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """Settings of generation. Options, command line, help and docs are derived from the fields.

    A setting that changes logits also needs a line in `changes_logits`, and arithmetic in `processors.py`.

    Raises:
        InputError: a setting is impossible, alone or with another.
    """

    max_new_tokens: int | None = setting(
        None, at_least(1), "Most tokens to add; by default as the model says, or 256.", is_option=True
    )
    max_length: int | None = setting(
        None, at_least(1), "Most tokens, prompt or decoder start token included; max_new_tokens takes precedence."
    )
    min_new_tokens: int | None = setting(None, at_least(0), "Fewest tokens to add.", is_option=True)
    min_length: int = setting(
        0, at_least(0), "Fewest tokens, prompt or decoder start token included; min_new_tokens takes precedence."
    )
    eos_token_id: tuple[int, ...] = setting((), TOKENS, "End tokens: any of them ends a sequence.")
    stop_strings: tuple[str, ...] = setting((), TEXTS, "Texts that end a sequence once the new text holds one of them.")
    max_time: float | None = setting(
        None,
        number("a number of seconds greater than 0", lambda value: value > 0),
        "End all answers of a batch after this many seconds.",
        is_option=True,
    )
    at_context_end: ContextEnd = setting(
        ContextEnd.ERROR,
        CONTEXT_END,
        "Where the context has no room for the new tokens: refuse (error), stop, or forget its beginning (slide).",
        is_option=True,
    )
    decoder_start_token_id: int | None = setting(
        None, TOKEN, "First token of the decoder of an encoder-decoder; by default bos_token_id."
    )

    forced_bos_token_id: int | None = setting(None, TOKEN, "Token that follows a single first token.")
    forced_eos_token_id: tuple[int, ...] = setting((), TOKENS, "Last token where the limit ends a sequence.")
    suppress_tokens: tuple[int, ...] = setting((), TOKENS, "Tokens that are never generated.")
    bad_words_ids: tuple[tuple[int, ...], ...] = setting(
        (), BAD_WORDS, "Token sequences that are never generated; a sequence of one end token is ignored."
    )
    begin_suppress_tokens: tuple[int, ...] = setting((), TOKENS, "Tokens that are never generated first.")
    logit_bias: tuple[tuple[int, float], ...] = setting(
        (), BIASES, "Numbers to add to the logits of tokens: above 0 a token becomes more probable."
    )
    repetition_penalty: float = setting(
        1.0, FACTOR, "Above 1: tokens that occur already become less probable.", is_option=True
    )
    frequency_penalty: float = setting(
        0.0,
        PENALTY,
        "Above 0: generated tokens become less probable each time they occur, prompt left out.",
        is_option=True,
    )
    presence_penalty: float = setting(
        0.0,
        PENALTY,
        "Above 0: generated tokens become less probable once they occur, prompt left out.",
        is_option=True,
    )
    no_repeat_ngram_size: int = setting(
        0, at_least(0), "Length of token sequences that may not occur twice; 0 for no rule.", is_option=True
    )

    do_sample: bool = setting(
        False,
        SWITCH,
        "Sample each token by its probability; otherwise take the most probable one (greedy).",
        is_option=True,
    )
    temperature: float = setting(
        1.0,
        number("a number greater than 0 and at most 1e30", lambda value: 0 < value <= 1e30),
        "For sampling: below 1 favours probable tokens more, above 1 less.",
        is_option=True,
        needs="do_sample",
    )
    top_k: int = setting(
        50,
        at_least(0),
        "For sampling: keep only this many of the most probable tokens; 0 keeps all.",
        is_option=True,
        needs="do_sample",
    )
    top_p: float = setting(
        1.0,
        number("a number greater than 0 and at most 1", lambda value: 0 < value <= 1),
        "For sampling: keep the most probable tokens that together reach this probability (nucleus).",
        is_option=True,
        needs="do_sample",
    )
    min_p: float | None = setting(
        None,
        PROBABILITY,
        "For sampling: keep tokens with at least this share of the best token's probability.",
        is_option=True,
        needs="do_sample",
    )
    seed: int | None = setting(
        None,
        at_least(0, 2**64),
        "For sampling: equal seeds give equal tokens; by default a random seed.",
        is_option=True,
    )

    num_beams: int = setting(1, at_least(1, MAX_BEAMS), "Number of beams of beam search; 1 for none.", is_option=True)
    length_penalty: float = setting(
        1.0,
        number("a number"),
        "For beams: above 0 favours longer answers, below 0 shorter ones.",
        is_option=True,
        needs="num_beams",
    )
    early_stopping: bool | Literal["never"] = setting(
        False,
        EARLY_STOPPING,
        'For beams: end at num_beams answers (true), when better ones are unlikely (false) or impossible ("never").',
        needs="num_beams",
    )
    renormalize_logits: bool = setting(
        False, SWITCH, "For beams: normalize probabilities again after other settings have removed tokens."
    )
    num_return_sequences: int = setting(1, at_least(1, MAX_ANSWERS), "Number of answers to each prompt.")

    given: frozenset[str] = frozenset()
    """Names of the settings that the caller has set."""
    unused: "UnusedSettings | None" = field(default=None, compare=False, repr=False)
    """Settings of the checkpoint that have no effect until the caller sets another."""

    def __post_init__(self) -> None:
        for name, own in SETTINGS.items():
            value = getattr(self, name)
            if value is not None and not own.rule.accepts(value):
                raise InputError(f"{name}={shown(value)}: expected {own.rule.expected}.")
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
        """Read a checkpoint's settings from generation_config.json, or from config.json in older checkpoints.

        Raises:
            UnsupportedModelError: a setting is impossible, or not implemented in this version.
        """
        from triform.generation.checkpoint_settings import read_checkpoint_settings

        return read_checkpoint_settings(checkpoint)

    def updated(self, settings: Mapping[str, Any]) -> "GenerationConfig":
        """Return a copy with the caller's settings; None leaves a setting unchanged.

        Raises:
            InputError: a setting is unknown, impossible, or has no effect.
            UnsupportedModelError: a setting of the checkpoint is impossible or not implemented, and now has an effect.
        """
        for name in settings:
            if name not in SETTINGS:
                raise unknown_setting(name)
        chosen = converted(settings)
        # The caller's limit of one kind overrides the checkpoint's limit of the other kind.
        for name, other in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if name in chosen:
                chosen.setdefault(other, None)
        updated = replace(self, **chosen, given=self.given | {name for name in chosen if chosen[name] is not None})
        updated._check_use()
        return updated if self.unused is None else self.unused.awaken(updated)

    def has_effect(self, name: str) -> bool:
        """Check whether the setting that another setting needs is set."""
        return {"do_sample": self.do_sample, "num_beams": self.num_beams > 1}.get(SETTINGS[name].needs or "", True)

    def limit(self, prompt_length: int, context_length: int | None) -> Limit:
        """Compute the most tokens after a prompt: from the caller, else the checkpoint, else `MAX_NEW_TOKENS`.

        Arguments:
            prompt_length: tokens of the prompt.
            context_length: tokens of the model's context; None for no limit.

        Raises:
            InputError: the limit allows no token, or the caller's exceeds the context with `at_context_end` at `error`.
        """
        is_callers = bool(self.given & {"max_new_tokens", "max_length"})
        limit = self.max_new_tokens
        if limit is None:
            limit = MAX_NEW_TOKENS if self.max_length is None else self.max_length - prompt_length
        if limit < 1:
            whose = "" if is_callers else " of the checkpoint"
            raise InputError(
                f"max_length={self.max_length}{whose}: expected more than a prompt's {prompt_length} tokens. "
                "Set max_new_tokens."
            )
        if not is_callers:
            ceiling = MAX_WITHOUT_CONTEXT if context_length is None else context_length
            limit = min(limit, ceiling, MAX_CHECKPOINT_TOKENS)
        room = math.inf if context_length is None else context_length - prompt_length
        if limit <= room or self.at_context_end is ContextEnd.SLIDE:
            return Limit(num_tokens=limit)
        if is_callers and self.at_context_end is ContextEnd.ERROR:
            raise ContextLengthError(
                f"A prompt of {prompt_length} tokens and {limit} new ones are more than the model's context of "
                f"{context_length}. Shorten the prompt, ask for at most {room} new tokens, or set at_context_end to "
                '"stop" or "slide".',
                prompt_length,
                int(room) + prompt_length,
            )
        # The last token of a full context has logits too.
        return Limit(num_tokens=max(1, int(room)), reason=FinishReason.CONTEXT)

    def least(self, prompt_length: int) -> int:
        """Compute the fewest tokens after a prompt before an end token."""
        return self.min_length - prompt_length if self.min_new_tokens is None else self.min_new_tokens

    def check_vocabulary(self, vocab_size: int) -> None:
        """Refuse biases for tokens outside the vocabulary.

        Raises:
            InputError: naming the first.
        """
        outside = [id for id, _ in self.logit_bias if id >= vocab_size]
        if outside:
            raise InputError(
                f"logit_bias: the id {outside[0]} is outside the vocabulary of {vocab_size} entries. Leave it out."
            )

    @property
    def changes_logits(self) -> bool:
        """True if a setting changes the logits before the choice of a token."""
        return bool(
            self.min_new_tokens
            or self.min_length
            or self.forced_bos_token_id is not None
            or self.forced_eos_token_id
            or self.suppress_tokens
            or self.bad_words_ids
            or self.begin_suppress_tokens
            or self.logit_bias
            or self.repetition_penalty != 1
            or self.frequency_penalty
            or self.presence_penalty
            or self.no_repeat_ngram_size
        )

    def _check_use(self) -> None:
        """Refuse settings of the caller without effect.

        Raises:
            InputError: naming the settings and the remedy.
        """
        for needed, remedy in (("do_sample", "do_sample=True"), ("num_beams", "num_beams greater than 1")):
            names = sorted(name for name in self.given if SETTINGS[name].needs == needed and not self.has_effect(name))
            if names:
                raise InputError(f"{', '.join(names)}: no effect without {remedy}.")


SETTINGS: Mapping[str, Setting] = {
    known.name: Setting(known.name, known.type, known.default, **known.metadata)
    for known in fields(GenerationConfig)
    if "rule" in known.metadata
}
"""All settings by name."""


def unknown_setting(name: str) -> InputError:
    """Make the error for a setting that a caller cannot set."""
    from triform.generation.checkpoint_settings import NOT_IMPLEMENTED

    if name in NOT_IMPLEMENTED:
        return InputError(f"{name} is not implemented in this version.")
    return InputError(f"generate has no setting {name}. It has {', '.join(SETTINGS)}.")


def converted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values to the types of the fields, without the None values."""
    return {name: SETTINGS[name].rule.convert(value) for name, value in values.items() if value is not None}
