"""How a checkpoint wants to generate: generation_config.json, or the older keys of config.json."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triform.errors import GenerationWarning, UnsupportedModelError
from triform.hub import Checkpoint

MAX_NEW_TOKENS = 256
"""Where neither the caller nor the checkpoint sets a limit, as in the pipelines of the field."""

NEUTRAL: Mapping[str, Any] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "bad_words_ids": None,
    "sequence_bias": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
}
"""Settings that change which token is the best, with the values at which they do not."""

CHOICE: Mapping[str, Any] = {"do_sample": False, "num_beams": 1, "penalty_alpha": None}
"""Settings that ask for something other than the best token at each step, with the values of greedy decoding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """What greedy decoding needs to know."""

    eos_token_ids: frozenset[int] = frozenset()
    """Any of these ends a sequence."""
    decoder_start_token_id: int | None = None
    """What a decoder with an encoder begins with."""
    max_new_tokens: int | None = None
    """The checkpoint's own limit."""
    max_length: int | None = None
    """The same, counting the prompt."""

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> "GenerationConfig":
        """Read a checkpoint's settings.

        Warns:
            GenerationWarning: it asks for sampling or beams; greedy decoding is what this version does.

        Raises:
            UnsupportedModelError: it asks for something that would change what greedy decoding answers.
        """
        config = checkpoint.read_object("config.json")
        # Older checkpoints keep their settings among the config's keys.
        name = "generation_config.json" if checkpoint.has("generation_config.json") else "config.json"
        own = checkpoint.read_object(name)
        where = checkpoint.folder / name
        for key, neutral in NEUTRAL.items():
            value = own.get(key)
            if value not in (None, neutral, []):
                raise UnsupportedModelError(
                    f"{where}: {key} = {value!r} changes the answers, and this version does not implement it. "
                    "To generate without it, take it out of a copy of the file."
                )
        asked = [f"{key} = {own[key]!r}" for key, greedy in CHOICE.items() if own.get(key) not in (None, greedy)]
        if asked:
            warnings.warn(
                f"{where} asks for {', '.join(asked)}; this version decodes greedily.", GenerationWarning, stacklevel=2
            )

        def read(key: str) -> Any:
            return own[key] if own.get(key) is not None else config.get(key)

        eos = read("eos_token_id")
        start = read("decoder_start_token_id")
        return cls(
            eos_token_ids=frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos]),
            decoder_start_token_id=start if start is not None else read("bos_token_id"),
            max_new_tokens=own.get("max_new_tokens"),
            max_length=own.get("max_length"),
        )

    def new_tokens(self, prompt_length: int, max_new_tokens: int | None, context_length: int | None) -> int:
        """How many tokens may follow the longest prompt.

        The caller's wish goes first, then the checkpoint's, then `MAX_NEW_TOKENS`; the latter two end at the context.
        """
        if max_new_tokens is not None:
            return max_new_tokens
        limit = self.max_new_tokens
        if limit is None and self.max_length is not None:
            limit = self.max_length - prompt_length
        if limit is None or limit < 1:
            limit = MAX_NEW_TOKENS
        return limit if context_length is None else max(1, min(limit, context_length - prompt_length))
