"""Parameters in memory: kept in the format of the file, widened to float32 where an operation uses them."""

from dataclasses import dataclass

from triform.engines.formats import Floats, Format, StoredTensor, to_float32
from triform.engines.protocol import Integers


@dataclass(frozen=True, eq=False, slots=True)
class ReferenceParameter:
    """A stored tensor; in float32, the mapped file itself."""

    tensor: StoredTensor

    @property
    def format(self) -> Format:
        """The format of the stored tensor."""
        return self.tensor.format

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.tensor.shape

    def float32(self) -> Floats:
        """Widen all numbers to float32, of the same shape."""
        return to_float32(self.tensor)

    def rows(self, indices: Integers) -> Floats:
        """Widen some rows of a table to float32, not the whole table: (rows, D) and (T,) indices → (T, D)."""
        return to_float32(self.tensor.rows(indices))
