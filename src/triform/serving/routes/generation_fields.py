"""The fields of a body that say how text is generated, and the settings of generation that they mean."""

from collections.abc import Sequence
from typing import Any

import msgspec

from triform.errors import ContextLengthError, InputError
from triform.generation import Request
from triform.inputs import Batch
from triform.model import Model
from triform.serving.errors import ApiError

MAX_STOPS, MAX_STOP_CHARACTERS = 16, 256
MAX_ANSWERS = 128
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""Fields for drawing tokens → values without an effect."""
NAMES = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "num_return_sequences": "n",
    "stop_strings": "stop",
    "eos_token_id": "stop_token_ids",
}
"""Settings of generation → fields, for messages."""


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Options of an answer in events. `include_obfuscation` is accepted: no event is padded."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class GenerationFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What chat and completions have in common. The fields of the last group change no answer and are not read."""

    model: str | None = None
    n: int | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[int] | None = None
    priority: int | None = None
    structured_outputs: dict[str, Any] | None = None

    cache_prompt: Any = None
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None

    @property
    def num_answers(self) -> int:
        """The answers to each prompt."""
        return 1 if self.n is None else self.n

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def check(self) -> None:
        """Check the values that no setting of generation checks.

        Raises:
            ApiError: naming the field.
        """
        if not 1 <= self.num_answers <= MAX_ANSWERS:
            raise wrong("n", f"expected 1 to {MAX_ANSWERS}, got {self.n}")
        for name, least, most in (
            ("temperature", 0, 2),
            ("presence_penalty", -2, 2),
            ("frequency_penalty", -2, 2),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise wrong(name, f"expected a number from {least} to {most}, got {value}")
        if len(self.stops) > MAX_STOPS:
            raise wrong("stop", f"expected at most {MAX_STOPS} texts, got {len(self.stops)}")
        for number, stop in enumerate(self.stops):
            if not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
                name = "stop" if isinstance(self.stop, str) else f"stop[{number}]"
                raise wrong(name, f"expected a text of 1 to {MAX_STOP_CHARACTERS} characters, got {len(stop)}")
        if self.stream_options is not None and not self.stream:
            raise wrong("stream_options", "expected with stream: true alone. Set stream, or leave this out")
        if self.priority is not None and abs(self.priority) > 1_000_000:
            raise wrong("priority", f"expected a number from -1000000 to 1000000, got {self.priority}")


def wrong(param: str, message: str) -> ApiError:
    """Make the error for a field."""
    return ApiError(400, f"{param}: {message}.", param=param)


def settings_of(fields: GenerationFields, model: Model) -> dict[str, Any]:
    """Translate fields into settings of `Model.new_requests`, without the limit of new tokens.

    Temperature 0 means greedy. Without a temperature the checkpoint's own settings hold, unless another field for
    drawing tokens has an effect.

    Raises:
        ApiError: naming the field.
    """
    fields.check()
    known = model.generation_config
    own = {name: value for name in SAMPLING if (value := getattr(fields, name)) is not None}
    if own.get("top_k", 0) < 0:
        own["top_k"] = 0  # -1 means all in other servers
    draws = known.do_sample or any(name == "temperature" or value != SAMPLING[name] for name, value in own.items())
    if own.get("temperature") == 0:
        draws = False
    others = {
        "seed": fields.seed,
        "stop_strings": fields.stops or None,
        "repetition_penalty": fields.repetition_penalty,
        "min_new_tokens": fields.min_tokens,
        "eos_token_id": _end_tokens(fields, known.eos_token_id),
        "presence_penalty": fields.presence_penalty or None,
        "frequency_penalty": fields.frequency_penalty or None,
        "logit_bias": _logit_bias(fields, model),
    }
    given = {name: value for name, value in others.items() if value is not None}
    return {"do_sample": draws, **(own if draws else {}), **given}


def _end_tokens(fields: GenerationFields, known: Sequence[int]) -> tuple[int, ...] | None:
    if not fields.ignore_eos and not fields.stop_token_ids:
        return None
    return (*(() if fields.ignore_eos else known), *(fields.stop_token_ids or ()))


def _logit_bias(fields: GenerationFields, model: Model) -> dict[int, float] | None:
    """Read `{id as a text: bias}`.

    Raises:
        ApiError: a key outside the vocabulary, or a bias beyond 100.
    """
    if not fields.logit_bias:
        return None
    size = model.spec.output_stack.vocab_size
    for id, bias in fields.logit_bias.items():
        if not (id.isascii() and id.isdigit() and int(id[:20]) < size):
            raise wrong("logit_bias", f"expected ids from 0 to {size - 1} as keys, got {id[:60]!r}")
        if not -100 <= bias <= 100:
            raise wrong(f"logit_bias.{id}", f"expected a number from -100 to 100, got {bias}")
    return {int(id): bias for id, bias in fields.logit_bias.items()}


def limit_of(max_new_tokens: int | None, default: int) -> dict[str, Any]:
    """Return the settings for the most new tokens: a caller's number must fit, a default ends with the context."""
    if max_new_tokens is not None:
        return {"max_new_tokens": max_new_tokens}
    return {"max_new_tokens": default, "at_context_end": "stop"}


def requests_for(
    model: Model, batch: Batch, *, num_answers: int, limit_name: str = "max_tokens", **settings: Any
) -> list[Request]:
    """Make requests of prompts, `num_answers` for each, numbered prompt · num_answers + answer.

    Arguments:
        model: the model.
        batch: the prompts.
        num_answers: answers to each prompt.
        limit_name: the field of the most new tokens, for errors.
        settings: of `settings_of` and `limit_of`, and other arguments of `Model.new_requests`.

    Raises:
        ApiError: a setting is impossible; named by its field.
    """
    if settings["do_sample"]:
        settings["num_return_sequences"] = num_answers
    elif num_answers > 1:  # equal answers share the pages of the prompt
        batch = Batch.concatenate([batch.slice(b, b + 1) for b in range(len(batch)) for _ in range(num_answers)])
    try:
        return model.new_requests(batch, **settings)
    except ContextLengthError as error:
        room = error.limit - error.num_tokens
        message = (
            f"{limit_name}: the prompt's {error.num_tokens} tokens and {settings.get('max_new_tokens')} new ones are "
            f"more than the model's context of {error.limit}. Shorten the prompt, or ask for at most "
            f"{max(room, 0)} new tokens."
        )
        limits = {"n_prompt_tokens": error.num_tokens, "n_ctx": error.limit}
        raise ApiError(400, message, code="context_length_exceeded", param=limit_name, extra=limits) from error
    except InputError as error:
        name, separator, rest = str(error).partition("=")
        if separator and name in NAMES:
            raise ApiError(400, f"{NAMES[name]}={rest}", param=NAMES[name]) from error
        raise
