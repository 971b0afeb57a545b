"""Settings of generation in a checkpoint: generation_config.json, or config.json in older checkpoints.

Every key of the file is followed, checked, harmless, or refused by name. A setting that needs another setting, such as
temperature without do_sample, is judged once the other is set, as in transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from triform.errors import InputError, UnsupportedModelError, shown
from triform.generation.config import SETTINGS, GenerationConfig, converted
from triform.generation.rules import Rule, number
from triform.hub import Checkpoint
from triform.settings import KeyUse, Settings

FILE, OLD_FILE = "generation_config.json", "config.json"


class Use(StrEnum):
    """Condition for the effect of a setting that is not implemented."""

    ALWAYS = "always"
    SAMPLING = "do_sample"
    BEAMS = "num_beams"
    NO_BEAMS = "no beams"
    CONTRASTIVE = "contrastive search"


NEVER = Rule("no value", lambda value: value == [])
NOT_IMPLEMENTED: Mapping[str, tuple[Rule, Use]] = {
    "encoder_repetition_penalty": (number("1", lambda value: value == 1), Use.ALWAYS),
    "encoder_no_repeat_ngram_size": (number("0", lambda value: value == 0), Use.ALWAYS),
    "guidance_scale": (number("1", lambda value: value == 1), Use.ALWAYS),
    "sequence_bias": (NEVER, Use.ALWAYS),
    "exponential_decay_length_penalty": (NEVER, Use.ALWAYS),
    "force_words_ids": (NEVER, Use.ALWAYS),
    "constraints": (NEVER, Use.ALWAYS),
    "watermarking_config": (NEVER, Use.ALWAYS),
    "remove_invalid_values": (Rule("false", lambda value: value is False), Use.ALWAYS),
    "token_healing": (Rule("false", lambda value: value is False), Use.ALWAYS),
    "typical_p": (number("at least 1", lambda value: value >= 1), Use.SAMPLING),
    "top_h": (NEVER, Use.SAMPLING),
    "epsilon_cutoff": (number("outside 0 to 1", lambda value: not 0 < value < 1), Use.SAMPLING),
    "eta_cutoff": (number("outside 0 to 1", lambda value: not 0 < value < 1), Use.SAMPLING),
    "num_beam_groups": (number("at most 1", lambda value: value <= 1), Use.BEAMS),
    "penalty_alpha": (number("at most 0", lambda value: value <= 0), Use.CONTRASTIVE),
    "dola_layers": (NEVER, Use.NO_BEAMS),
}
"""Settings of transformers without an implementation here → values without an effect, and when others have one."""

HARMLESS = (
    # The cache, assisted generation and compilation give the same tokens, sooner or later.
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "low_memory", "prefill_chunk_size"),
    *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
    *("prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind"),
    *("target_lookbehind", "assistant_ensemble_weight", "speculation_type", "use_mtp"),
    *("compile_config", "disable_compile", "continuous_batching_config"),
    # What a call returns besides the tokens.
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    # Nothing is padded, and beam groups are refused.
    *("pad_token_id", "unk_token_id", "sep_token_id", "diversity_penalty"),
    # Notes of programs, which transformers keeps without reading them.
    *("transformers_version", "_from_model_config", "_commit_hash", "_original_object_hash", "name_or_path"),
    *("dtype", "torch_dtype", "model_type", "architectures", "trust_remote_code"),
    *("chat_format", "max_window_size", "user_token_id", "assistant_token_id"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnusedSettings:
    """Settings of a file that may have an effect once the caller sets another."""

    where: str
    """Path of the file, for messages."""
    values: Mapping[str, Any]
    """Settings of `SETTINGS` that need another, as they stand in the file."""
    not_implemented: Mapping[str, Any]
    """Settings of `NOT_IMPLEMENTED` with a value that has an effect."""

    def awaken(self, config: GenerationConfig) -> GenerationConfig:
        """Add the settings that have an effect with a configuration.

        Raises:
            UnsupportedModelError: one of them is impossible, or not implemented in this version.
        """
        used = {name: value for name, value in self.values.items() if config.has_effect(name)}
        awake = _made(config, {name: value for name, value in used.items() if name not in config.given}, self.where)
        for name, value in self.not_implemented.items():
            if self._is_used(NOT_IMPLEMENTED[name][1], awake):
                raise UnsupportedModelError(
                    f"{self.where}: {name} = {shown(value)} changes the answers, and this version does not implement "
                    f"it; expected {NOT_IMPLEMENTED[name][0].expected}. To generate without it, remove it from a copy "
                    "of the file."
                )
        return awake

    def _is_used(self, use: Use, config: GenerationConfig) -> bool:
        has_beams = config.num_beams > 1
        if use is Use.CONTRASTIVE:
            top_k = self.values.get("top_k", config.top_k)
            return not config.do_sample and not has_beams and not (isinstance(top_k, int) and top_k <= 1)
        conditions = {Use.SAMPLING: config.do_sample, Use.BEAMS: has_beams, Use.NO_BEAMS: not has_beams}
        return conditions.get(use, True)


def read_checkpoint_settings(checkpoint: Checkpoint) -> GenerationConfig:
    """Read a checkpoint's settings.

    Raises:
        UnsupportedModelError: a setting is impossible, not implemented in this version, or unknown.
    """
    name = FILE if checkpoint.has(FILE) else OLD_FILE
    file = Settings.of_file(checkpoint, name)
    own = {key: value for key in SETTINGS if (value := file.value(key)) is not None}
    others = {key: file.value(key, KeyUse.CHECKED) for key in NOT_IMPLEMENTED}
    bos_token_id = file.value("bos_token_id")
    if name == FILE:
        file.ignore(*HARMLESS)
        file.close()
        config = checkpoint.read_object(OLD_FILE)
        own.setdefault("decoder_start_token_id", config.get("decoder_start_token_id"))
        bos_token_id = config.get("bos_token_id") if bos_token_id is None else bos_token_id
    elif file.boolean("force_bos_token_to_be_generated", False):
        own["forced_bos_token_id"] = bos_token_id
    if own.get("decoder_start_token_id") is None:
        own["decoder_start_token_id"] = bos_token_id
    unused = UnusedSettings(
        where=file.where,
        values={key: value for key, value in own.items() if SETTINGS[key].needs},
        not_implemented={
            key: value
            for key, value in others.items()
            if value is not None and not NOT_IMPLEMENTED[key][0].accepts(value)
        },
    )
    used = {key: value for key, value in own.items() if not SETTINGS[key].needs}
    return _made(GenerationConfig(unused=unused), used, file.where)


def _made(config: GenerationConfig, values: Mapping[str, Any], where: str) -> GenerationConfig:
    """Set values of a file.

    Raises:
        UnsupportedModelError: a value is impossible.
    """
    try:
        return replace(config, **converted(values))
    except InputError as error:
        raise UnsupportedModelError(f"{where}: {error} To generate, correct it in a copy of the file.") from error
