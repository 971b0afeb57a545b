"""Initialization: the distribution of parameters before any training, equal to the reference implementation's.

Weights come from a normal distribution around 0; biases are 0 and norms are 1.
"""

from collections.abc import Mapping
from typing import NamedTuple

from triform import spec
from triform.families.kit.config import Config


class Initialization(NamedTuple):
    """The standard deviations of new parameters, and the rows of padding."""

    deviations: Mapping[str, float]
    """Pattern of canonical names, `*` for anything → standard deviation. The first pattern that fits counts."""
    padding: Mapping[str, int]
    """Canonical name of an embedding → row of the padding, which begins as 0 and gets no gradient from lookups."""


def by_range(config: Config, model: spec.Model) -> Initialization:
    """Return the deviation `initializer_range` for all weights."""
    return Initialization(deviations={"*": _range(config)}, padding=_padding(config, model))


def by_range_and_depth(config: Config, model: spec.Model) -> Initialization:
    """Return a deviation, divided by √(2·blocks) for outputs onto the residual. Radford et al. 2019, section 2.3."""
    deviation = _range(config)
    residual = deviation / (2 * len(model.output_stack.blocks)) ** 0.5
    deviations = {"*.attention.output.weight": residual, "*.feed_forward.down.weight": residual, "*": deviation}
    return Initialization(deviations=deviations, padding={})


def by_fan_in(config: Config, model: spec.Model) -> Initialization:
    """Return 1/√inputs, and 1 for words; queries include the scale of scores. Mesh TensorFlow, Shazeer et al. 2018."""
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
    """Return the row of the padding's id, and for positions with an offset the row before the first position."""
    padding: dict[str, int] = {}
    id = config.integer("pad_token_id", -1, minimum=-1)
    stack = "encoder." if isinstance(model.form, spec.EncoderDecoder) else ""
    if id >= 0:
        padding[f"{stack}embedding.word.weight"] = id
    position = model.input_stack.embedding.position
    if isinstance(model.form, spec.Encoder) and isinstance(position, spec.Learned) and position.offset:
        padding["embedding.position.weight"] = position.offset - 1
    return padding
