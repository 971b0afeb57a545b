"""Positions: added to the embedding, rotating queries and keys inside an attention, or as a bias on the scores."""

import math
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from triform import spec
from triform.engines import Array, Bias, DistanceBias, Integers, Parameter
from triform.networks.context import ForwardContext
from triform.networks.layers.projections import Projections
from triform.networks.scope import Scope


class Learned:
    """A learned vector for each position. Devlin et al. 2018, figure 2."""

    def __init__(self, scope: Scope, learned: spec.Learned, size: int) -> None:
        self._engine = scope.engine
        self._offset = learned.offset
        self._padding = learned.padding
        self._table = scope.table("weight", learned.num_positions, size)

    def lookup(self, ids: Integers, context: ForwardContext) -> tuple[Array, Parameter]:
        """Find the rows of the table for (T,) ids, (T,), and the table, (num_positions, D)."""
        positions = context.positions(None if self._padding is None else ids == self._padding)
        return self._engine.asarray(positions + self._offset), self._table

    def __call__(self, ids: Integers, context: ForwardContext) -> Array:
        """(T,) ids → (T, D)."""
        return self._engine.embedding(*self.lookup(ids, context))


class Sinusoidal:
    """Waves of falling frequency. Vaswani et al. 2017, section 3.5."""

    def __init__(self, scope: Scope, sinusoidal: spec.Sinusoidal, size: int) -> None:
        self._engine = scope.engine
        self._num_positions = sinusoidal.num_positions
        self._size = size
        self._waves: Array | None = None

    def __call__(self, ids: Integers, context: ForwardContext) -> Array:
        """(T,) ids → (T, D)."""
        positions = context.positions()
        return self._engine.rows(self._table(int(positions.max()) + 1), positions)

    def _table(self, length: int) -> Array:
        """Compute at least `length` rows, and twice as many whenever they run out."""
        waves = self._waves
        if waves is None or waves.shape[0] < length:
            num_rows = min(1 << length.bit_length(), self._num_positions)
            waves = self._waves = self._engine.asarray(sinusoids(num_rows, self._size))
        return waves


def build_absolute_position(
    scope: Scope, position: spec.Learned | spec.Sinusoidal | None, size: int
) -> Learned | Sinusoidal | None:
    """Build the absolute positions of a spec, added to the word vectors."""
    match position:
        case spec.Learned():
            return Learned(scope, position, size)
        case spec.Sinusoidal():
            return Sinusoidal(scope, position, size)
        case None:
            return None


def sinusoids(num_positions: int, size: int) -> NDArray[np.float32]:
    """Compute sin(position / 10000^(2i/size)) for every i, then the cosines: (num_positions, size)."""
    wavelengths = np.power(10000, 2 * np.arange((size + 1) // 2) / size)
    angles = np.arange(num_positions)[:, None] / wavelengths
    return np.concatenate([np.sin(angles), np.cos(angles)[:, : size // 2]], axis=1).astype(np.float32)


class Position(Protocol):
    """A position scheme inside an attention."""

    def rotate(self, x_TNH: Array, context: ForwardContext) -> Array:
        """Rotate queries or keys by their positions: (T, N, H) → (T, N, H)."""

    def bias(self, context: ForwardContext) -> Bias | None:
        """Compute the bias on the scores of the pass; None for no bias."""


class NoPosition:
    """Attention without positions."""

    def rotate(self, x_TNH: Array, context: ForwardContext) -> Array:
        return x_TNH

    def bias(self, context: ForwardContext) -> Bias | None:
        return None


class Rotary:
    """Channels i and i + dim/2 of a head rotated by position · frequency i. Su et al. 2021, equation 34."""

    def __init__(self, scope: Scope, rotary: spec.Rotary) -> None:
        self._engine = scope.engine
        self._spec = rotary

    @cached_property
    def _frequencies(self) -> NDArray[np.float32]:
        # Computed late: only the weights confirm the size of a head.
        return rotary_frequencies(self._spec)

    def rotate(self, x_TNH: Array, context: ForwardContext) -> Array:
        engine = self._engine
        table = context.compute_once(
            self._spec, lambda: engine.rotary_table(engine.asarray(context.positions()), self._frequencies)
        )
        return engine.rotary(x_TNH, table)

    def bias(self, context: ForwardContext) -> Bias | None:
        return None


class RelativeBias:
    """A learned number per head and bucket of distance. Raffel et al. 2020, section 2.1."""

    def __init__(self, scope: Scope, bias: spec.RelativeBias, num_heads: int) -> None:
        self._engine = scope.engine
        self._spec = bias
        self._table = scope.table("weight", bias.num_buckets, num_heads)

    def rotate(self, x_TNH: Array, context: ForwardContext) -> Array:
        return x_TNH

    def bias(self, context: ForwardContext) -> Bias | None:
        return self._engine.shared(
            lambda: context.compute_once(id(self._table), lambda: self._compute(int(context.key_lengths.max())))
        )

    def _compute(self, length: int) -> DistanceBias:
        buckets = distance_buckets(np.arange(1 - length, length), self._spec)
        values_RN = self._engine.embedding(self._engine.asarray(buckets), self._table)
        return DistanceBias(self._engine.transpose(values_RN), zero=length - 1)


def build_position(scope: Scope, position: spec.AttentionPosition | None, projections: Projections) -> Position:
    """Build the position scheme of a spec, for the attention at `scope` with these projections."""
    match position:
        case spec.Rotary():
            return Rotary(scope, position)
        case spec.RelativeBias(shared=shared):
            place = scope.top() if shared else scope
            return RelativeBias(place / "relative_bias", position, projections.heads.num_attention_heads)
        case None:
            return NoPosition()


def rotary_frequencies(rotary: spec.Rotary) -> NDArray[np.float32]:
    """Compute the angle per position of each pair of channels, (D/2,) of the rotary dim D.

    In float32, as in the reference implementation: at position 10,000 the last bit is an angle of a thousandth.
    """
    exponents = np.arange(0, rotary.dim, 2, dtype=np.float32) / np.float32(rotary.dim)
    # NumPy's own float32 power is off by up to two units in the last place.
    powers = np.float64(np.float32(rotary.theta)) ** exponents.astype(np.float64)
    frequencies: NDArray[np.float32] = np.float32(1) / powers.astype(np.float32)
    match rotary.scaling:
        case None:
            return frequencies
        case spec.LinearScaling(factor=factor):
            return frequencies / np.float32(factor)
        case spec.Llama3Scaling() as scaling:
            return _llama3_frequencies(frequencies, scaling)


def _llama3_frequencies(frequencies: NDArray[np.float32], scaling: spec.Llama3Scaling) -> NDArray[np.float32]:
    context = scaling.original_context_length
    # A number divided by an array is the array's reciprocal times the number, as torch has it.
    wavelengths = 1 / frequencies * np.float32(2 * math.pi)
    scaled = frequencies / np.float32(scaling.factor)
    ramp = (1 / wavelengths * context - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    smooth = (1 - ramp) * frequencies / np.float32(scaling.factor) + ramp * frequencies
    is_low = wavelengths > context / scaling.low_freq_factor
    is_high = wavelengths < context / scaling.high_freq_factor
    return np.where(is_low, scaled, np.where(is_high, frequencies, smooth)).astype(np.float32)


def distance_buckets(distances: Integers, bias: spec.RelativeBias) -> Integers:
    """Find the bucket of each distance key − query, (R,): exact near by, then logarithmic.

    In float32, as in the reference implementation: the edges of buckets depend on the rounding.
    """
    if bias.bidirectional:
        num_buckets = bias.num_buckets // 2
        first = np.where(distances > 0, num_buckets, 0)
        away = np.abs(distances)
    else:
        num_buckets = bias.num_buckets
        first = np.zeros_like(distances)
        away = np.maximum(-distances, 0)
    num_exact = num_buckets // 2
    logarithm = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(num_exact))
    steps = logarithm / np.float32(math.log(bias.max_distance / num_exact)) * np.float32(num_buckets - num_exact)
    far = np.minimum(num_exact + steps.astype(np.int64), num_buckets - 1)
    return first + np.where(away < num_exact, away, far)
