"""What parameters are before any training, as the reference implementation has it.

Weights are drawn from a normal distribution around 0, biases are 0 and norms 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from triform import spec
from triform.families.kit.config import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Initialization:
    """How to begin from nothing."""

    deviations: Mapping[str, float]
    """Pattern of canonical names, `*` for anything → the standard deviation; of several that fit, the first."""
    padding: Mapping[str, int]
    """Canonical name of a table → its row for padding, which begins as 0 and has no gradient from being looked up."""


def by_range(config: Config, model: spec.Model) -> Initialization:
    """One deviation for all."""
    return Initialization(deviations={"*": _range(config)}, padding=_padding(config, model))


def by_range_and_depth(config: Config, model: spec.Model) -> Initialization:
    """Less for what is added to the residual, the more blocks there are. Radford et al. 2019, section 2.3."""
    deviation = _range(config)
    residual = deviation / (2 * len(model.output_stack.blocks)) ** 0.5
    deviations = {"*.attention.output.weight": residual, "*.feed_forward.down.weight": residual, "*": deviation}
    return Initialization(deviations=deviations, padding={})


def by_fan_in(config: Config, model: spec.Model) -> Initialization:
    """1/√inputs, and words 1; queries bring the scale of the scores. As Mesh TensorFlow, of Shazeer et al. 2018."""
    factor = config.number("initializer_factor", 1.0)
    hidden_size, head_dim = config.integer("d_model"), config.integer("d_kv")
    by_name = {
        "*word.weight": 1.0,
        "language_head.weight": 1.0,
        "*attention.query.weight": (hidden_size * head_dim) ** -0.5,
        "*attention.output.weight": (config.integer("num_heads") * head_dim) ** -0.5,
        "*feed_forward.down.weight": config.integer("d_ff") ** -0.5,
        **({"classification_head.weight": 1.0} if isinstance(model.head, spec.TokenHead) else {}),
        "*": hidden_size**-0.5,
    }
    return Initialization(deviations={name: factor * value for name, value in by_name.items()}, padding={})


def _range(config: Config) -> float:
    return config.number("initializer_range", config.number("init_std", 0.02))


def _padding(config: Config, model: spec.Model) -> dict[str, int]:
    """The row of the padding's id, and in a table of positions that begin behind it the one before the first."""
    padding: dict[str, int] = {}
    id = config.integer("pad_token_id", -1, minimum=-1)
    stack = "encoder." if isinstance(model.form, spec.EncoderDecoder) else ""
    if id >= 0:
        padding[f"{stack}embedding.word.weight"] = id
    position = model.input_stack.embedding.position
    if isinstance(model.form, spec.Encoder) and isinstance(position, spec.Learned) and position.offset:
        padding["embedding.position.weight"] = position.offset - 1
    return padding
