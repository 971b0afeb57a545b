"""Positions: how a model knows the order of tokens."""

from dataclasses import dataclass

__all__ = ["AttentionPosition", "Learned", "LinearScaling", "Llama3Scaling", "RelativeBias", "Rotary", "Sinusoidal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """A learned vector per position, added to the word embedding. Devlin et al. 2018, figure 2."""

    num_positions: int
    """Rows of the table."""
    offset: int = 0
    """The row of the first position: 2 in RoBERTa and BART."""
    padding: int | None = None
    """An id that takes the row before the first position and is not counted, even inside a text, as in RoBERTa."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sinusoidal:
    """Fixed waves: sines in the first half of the channels, cosines in the second. Vaswani et al. 2017, section 3.5."""

    num_positions: int
    """The longest sequence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearScaling:
    """Every rotary frequency divided by `factor`. Chen et al. 2023, equation 4."""

    factor: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Llama3Scaling:
    """Low rotary frequencies divided by `factor`, high frequencies kept, a ramp between. Llama 3 model card, 2024."""

    factor: float
    low_freq_factor: float
    """Wavelengths longer than `original_context_length / low_freq_factor` are scaled in full."""
    high_freq_factor: float
    """Wavelengths shorter than `original_context_length / high_freq_factor` are kept."""
    original_context_length: int
    """Tokens of context before the scaling."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotary:
    """RoPE: queries and keys rotated by an angle in proportion to the position. Su et al. 2021, section 3.2."""

    dim: int
    """Channels of a head that rotate; channel i is paired with channel i + dim/2."""
    theta: float
    """Base of the geometric series of frequencies."""
    scaling: LinearScaling | Llama3Scaling | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelativeBias:
    """Relative position bias: a learned number per head and bucket of distance. Raffel et al. 2020, section 2.1."""

    num_buckets: int
    max_distance: int
    """From this distance on, all keys share the last bucket."""
    bidirectional: bool
    """Whether half of the buckets are for keys to the right."""
    shared: bool
    """Whether all blocks of the stack share a table (T5); else each block has a table (umT5)."""


AttentionPosition = Rotary | RelativeBias
"""Positions that act inside an attention: they rotate queries and keys, or add a bias to the scores."""
