"""Parameters in memory: kept in the format of the file, widened to float32 where an operation uses them."""

from dataclasses import dataclass

from triform.engines.formats import Floats, Format, StoredTensor, to_float32
from triform.engines.protocol import Integers


@dataclass(frozen=True, eq=False, slots=True)
class ReferenceParameter:
    """A stored tensor; a float32 one is the mapped file itself."""

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
        """All numbers as float32."""
        return to_float32(self.tensor)

    def rows(self, indices: Integers) -> Floats:
        """Some rows as float32, so that a table in another format is never widened whole."""
        return to_float32(self.tensor.rows(indices))
