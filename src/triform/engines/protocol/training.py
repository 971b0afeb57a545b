"""Operations of training: gradients, dropout, LayerDrop and activation checkpointing."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

from triform.engines.formats import Format
from triform.engines.protocol.arrays import ArrayT
from triform.errors import EngineError

T = TypeVar("T")


class TrainingOperations(Generic[ArrayT]):
    """An engine with gradients overrides these operations; the defaults are for engines without."""

    name: str

    def inference(self) -> AbstractContextManager[None]:
        """Compute without gradients inside this context."""
        return nullcontext()

    def training(self, *, autocast: Format | None = None, recompute: bool = False) -> AbstractContextManager[None]:
        """Turn dropout on inside this context. Elsewhere, and on engines without gradients, dropout rates are ignored.

        Arguments:
            autocast: the half precision of products (mixed precision); None for float32.
            recompute: activation checkpointing: a block keeps its input only, and is computed again for gradients.

        Raises:
            EngineError: the engine has no gradients.
        """
        raise EngineError(f"The {self.name} engine has no gradients. Train with the torch engine.")

    def dropout(self, x: ArrayT, rate: float) -> ArrayT:
        """Set each number to zero with probability `rate` while training, and divide the rest by 1 − rate.

        Srivastava et al. 2014, section 10; scaled while training, so that inference needs no scaling.
        """
        return x

    def keeps(self, rate: float) -> bool:
        """Decide whether a block runs: LayerDrop skips a block with probability `rate` while training.

        Fan et al. 2019, arXiv:1909.11556.
        """
        return True

    def recomputed(self, compute: Callable[[ArrayT], ArrayT], x: ArrayT) -> ArrayT:
        """Compute `compute(x)` under activation checkpointing: an engine may repeat the computation for gradients.

        Chen et al. 2016, arXiv:1604.06174. (T, D) → (T, D).
        """
        return compute(x)

    def shared(self, compute: Callable[[], T]) -> T:
        """Compute `compute()` once and keep the activations, though the blocks around are recomputed."""
        return compute()
