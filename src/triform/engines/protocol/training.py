"""What training adds: dropout, gradients, and blocks that are computed again for them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from triform.engines.formats import Format
from triform.engines.protocol.arrays import Array
from triform.errors import EngineError

T = TypeVar("T")


class TrainingOperations:
    """What an engine with gradients does otherwise; the defaults are for engines without."""

    name: str

    def inference(self) -> AbstractContextManager[None]:
        """Inside, nobody will ask for gradients."""
        return nullcontext()

    def training(self, *, autocast: Format | None = None, recompute: bool = False) -> AbstractContextManager[None]:
        """Inside, dropout is on; elsewhere, and on engines without gradients, rates of dropout mean nothing.

        Arguments:
            autocast: a half precision for products, beside float32 for what needs its range; None for float32.
            recompute: whether a block keeps only its input, and is computed again for its gradients.

        Raises:
            EngineError: the engine has no gradients.
        """
        raise EngineError(f"The {self.name} engine has no gradients. Train with the torch engine.")

    def dropout(self, x: Array, rate: float) -> Array:
        """While training, each number nought with probability `rate`, or else divided by 1 − rate.

        Srivastava et al. 2014, section 10, where what is kept is scaled so that inference need not be.
        """
        return x

    def keeps(self, rate: float) -> bool:
        """Whether a block is gone through: while training, it is passed over with probability `rate`."""
        return True

    def recomputed(self, compute: Callable[[Array], Array], x: Array) -> Array:
        """compute(x), which an engine may do again when gradients are wanted, to keep less until then."""
        return compute(x)

    def shared(self, compute: Callable[[], T]) -> T:
        """compute(), done once and kept where several blocks need it, though these be computed again."""
        return compute()
