"""Updates of parameters by an adapter, computed in float32 while parameters are loaded."""

from dataclasses import dataclass

import numpy as np

from triform.engines import Floats, Format, StoredTensor, to_float32


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRankUpdate:
    """The low-rank update of a parameter: W + scale·B·A.

    With a magnitude m, that of DoRA, m·(W + scale·B·A) / ‖W + scale·B·A‖ for each output channel. Liu et al. 2024,
    arXiv:2402.09353, equation 5.
    """

    a: Floats
    """(r, in), or (r, rows) for an embedding."""
    b: Floats
    """(out, r), or (D, r) for an embedding."""
    scale: float
    magnitude: Floats | None
    """(out,), or (D,) for an embedding."""
    is_table: bool
    """Whether the parameter is an embedding (rows, D), whose columns are the output channels."""

    def __call__(self, tensor: StoredTensor) -> StoredTensor:
        """Return the updated tensor in float32, of the shape of `tensor`: (out, in), or (rows, D)."""
        delta = self.b @ self.a
        weight = to_float32(tensor) + np.float32(self.scale) * (delta.T if self.is_table else delta)
        if self.magnitude is not None:
            norm = np.linalg.norm(weight, axis=0 if self.is_table else 1)
            factor = self.magnitude / norm
            weight *= factor if self.is_table else factor[:, None]
        return StoredTensor(np.ascontiguousarray(weight, np.float32), Format.FLOAT32)


@dataclass(frozen=True, kw_only=True, slots=True)
class BiasUpdate:
    """The update of a bias: bias + scale·b."""

    b: Floats
    """(out,)"""
    scale: float

    def __call__(self, tensor: StoredTensor) -> StoredTensor:
        """Return the updated bias (out,) in float32."""
        return StoredTensor(to_float32(tensor) + np.float32(self.scale) * self.b, Format.FLOAT32)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowUpdate:
    """New rows of an embedding. The other rows stay."""

    ids: tuple[int, ...]
    rows: Floats
    """(len(ids), D)"""

    def __call__(self, tensor: StoredTensor) -> StoredTensor:
        """Return the updated embedding (rows, D) in float32."""
        table = np.array(to_float32(tensor))
        table[list(self.ids)] = self.rows
        return StoredTensor(table, Format.FLOAT32)


Update = LowRankUpdate | BiasUpdate | RowUpdate
