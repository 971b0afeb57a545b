"""The torch engine: each operation of the protocol in PyTorch, on a CPU or a GPU, with gradients."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from triform.engines.formats import Format, StoredTensor, convert
from triform.engines.protocol import (
    Bias,
    Integers,
    KeyValues,
    LayerCache,
    ParameterRole,
    ProbabilityHook,
    Spans,
    TypedEngine,
)
from triform.engines.torch import dropout
from triform.engines.torch.attention import Scores, attention
from triform.engines.torch.key_value_store import TorchStore
from triform.engines.torch.parameter import DTYPES, LowRankParameter, TorchParameter, to_stored, to_torch
from triform.errors import EngineError
from triform.spec import Activation, Pooling, ScoreRule

T = TypeVar("T")

ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.GELU: functional.gelu,
    Activation.GELU_TANH: lambda x: functional.gelu(x, approximate="tanh"),
    Activation.RELU: functional.relu,
    Activation.SILU: functional.silu,
    Activation.TANH: torch.tanh,
}


class TorchEngine(TypedEngine[torch.Tensor, TorchParameter]):
    """PyTorch; the arithmetic is float32, whatever format the parameters have.

    Arguments:
        device: a name of torch's, such as "cuda:1"; None for a GPU if there is one, else the CPU.

    Raises:
        EngineError: torch has no such device here.
    """

    name = "torch"
    formats = frozenset(DTYPES)
    page_size = 32

    def __init__(self, device: str | None = None) -> None:
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise EngineError(f"engine='torch:{device}': torch has no such device here: {reason}") from error
        self._is_training = False
        self._recomputes = False

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Turn gradients and dropout off inside this context, with `torch.inference_mode`."""
        with self._mode(is_training=False, recomputes=False), torch.inference_mode():
            yield

    @contextmanager
    def training(self, *, autocast: Format | None = None, recompute: bool = False) -> Iterator[None]:
        """Turn dropout on inside this context, with torch's autocast where asked for."""
        half = nullcontext() if autocast is None else torch.autocast(self.device.type, DTYPES[autocast])
        with self._mode(is_training=True, recomputes=recompute), half:
            yield

    @contextmanager
    def _mode(self, *, is_training: bool, recomputes: bool) -> Iterator[None]:
        before = self._is_training, self._recomputes
        self._is_training, self._recomputes = is_training, recomputes
        try:
            yield
        finally:
            self._is_training, self._recomputes = before

    def recomputed(self, compute: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Compute with `torch.utils.checkpoint` where activation checkpointing is on: (T, D) → (T, D)."""
        if not self._recomputes:
            return compute(x)

        def computed(x: torch.Tensor) -> torch.Tensor:
            """Compute (T, D) → (T, D) in training mode, also during backward, which may run outside `training`."""
            with self.training(recompute=True):
                return compute(x)

        again: torch.Tensor = checkpoint(computed, x, use_reentrant=False)
        return again

    def shared(self, compute: Callable[[], T]) -> T:
        """Compute once, and keep the activations from `checkpoint`."""
        # These hooks take precedence over the hooks of checkpoint(), which would drop the activations.
        with saved_tensors_hooks(_itself, _itself):
            return compute()

    def dropout(self, x: torch.Tensor, rate: float) -> torch.Tensor:
        """Apply dropout while training; any shape."""
        return dropout.drop(x, rate) if self._is_training and rate else x

    def keeps(self, rate: float) -> bool:
        """Draw whether a block runs while training (LayerDrop)."""
        return not (self._is_training and rate) or torch.rand(()).item() >= rate

    def prepare(self, name: str, tensor: StoredTensor, format: Format, role: ParameterRole) -> TorchParameter:
        """Copy a tensor to the device as a `torch.nn.Parameter`."""
        self.check_format(name, format)
        return TorchParameter(torch.nn.Parameter(to_torch(convert(tensor, format), self.device)), format)

    def stored(self, parameter: TorchParameter) -> StoredTensor:
        """Copy a parameter from the device; a low-rank change is merged into the weight."""
        if isinstance(parameter, LowRankParameter):
            return to_stored(parameter.float32(), Format.FLOAT32)
        return to_stored(parameter.tensor, parameter.format)

    def asarray(self, values: NDArray[Any]) -> torch.Tensor:
        """Copy or view a NumPy array as a tensor on the device, of the same shape."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def to_numpy(self, x: torch.Tensor) -> NDArray[Any]:
        """Copy or view a tensor as a NumPy array, detached, of the same shape."""
        numbers: NDArray[Any] = x.detach().cpu().numpy()
        return numbers

    def embedding(self, ids: torch.Tensor, table: TorchParameter) -> torch.Tensor:
        """Look rows of a table up: (T,) and (rows, D) → (T, D)."""
        return table.lookup(ids)

    def linear(
        self,
        x: torch.Tensor,
        weight: TorchParameter,
        bias: TorchParameter | None = None,
        *,
        activation: Activation | None = None,
        dropout: float = 0.0,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute dropout(activation(x·weightᵀ + bias)) + residual: (T, in) and (out, in) → (T, out)."""
        y = weight.linear(x, None if bias is None else bias.float32(), is_training=self._is_training)
        if activation is not None:
            y = ACTIVATIONS[activation](y)
        y = self.dropout(y, dropout)
        return y if residual is None else y + residual

    def layer_norm(self, x: torch.Tensor, weight: TorchParameter, bias: TorchParameter, eps: float) -> torch.Tensor:
        """Compute LayerNorm of each row by torch: (T, D) → (T, D)."""
        return functional.layer_norm(x, weight.shape, weight.float32(), bias.float32(), eps)

    def rms_norm(self, x: torch.Tensor, weight: TorchParameter, eps: float) -> torch.Tensor:
        """Compute x / √(mean(x²) + eps) · weight for each row in float32: (T, D) → (T, D)."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight.float32()

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute x + y: (T, D) → (T, D), or other shapes that torch broadcasts."""
        return x + y

    def multiply(self, x: torch.Tensor, y: torch.Tensor | float) -> torch.Tensor:
        """Compute x · y: (T, D) and a scalar or (T, D) → (T, D)."""
        return x * y

    def transpose(self, x: torch.Tensor) -> torch.Tensor:
        """Transpose a matrix, and copy the result to contiguous memory: (R, N) → (N, R)."""
        return x.T.contiguous()

    def rotary_table(self, positions: torch.Tensor, frequencies: NDArray[np.float32]) -> torch.Tensor:
        """Compute cosines and sines of the angles in float32: (T,) and (dim/2,) → (2, T, dim/2)."""
        angles = positions[:, None].float() * self.asarray(frequencies)
        return torch.stack([angles.cos(), angles.sin()])

    def rotary(self, x_TNH: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Rotate pairs of channels by the angles of the table: (T, N, H) and (2, T, dim/2) → (T, N, H)."""
        cos, sin = table[:, :, None, :]
        half = cos.shape[-1]
        first, second, rest = x_TNH.split([half, half, x_TNH.shape[-1] - 2 * half], dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)

    def attention(
        self,
        query_TNH: torch.Tensor,
        queries: Spans,
        keys: KeyValues,
        rule: ScoreRule,
        *,
        bias: Bias | None = None,
        dropout: float = 0.0,
        hook: ProbabilityHook | None = None,
    ) -> torch.Tensor:
        """Compute attention, with dropout only while training: (T, N, H) → (T, N, H)."""
        dropout = dropout if self._is_training else 0.0
        return attention(query_TNH, queries, keys, Scores(rule=rule, bias=bias, dropout=dropout), hook)

    def key_value_store(self, layers: Sequence[LayerCache]) -> TorchStore:
        """Make a store of two tensors for each layer on the device."""
        return TorchStore(layers, self.page_size, self.device)

    def rows(self, x: torch.Tensor, indices: Integers) -> torch.Tensor:
        """Pick rows by index: shape (T, …) → (len(indices), …)."""
        return x[self.asarray(indices)]

    def pool(self, x_TD: torch.Tensor, spans: Spans, pooling: Pooling) -> torch.Tensor:
        """Pool sequences of any lengths by segment reductions: (T, D) → (B, D)."""
        if pooling in (Pooling.FIRST, Pooling.LAST):
            return self.rows(x_TD, spans.begins if pooling is Pooling.FIRST else spans.ends - 1)
        lengths = spans.lengths
        places = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        own = self.rows(x_TD, np.repeat(spans.begins, lengths) + places)
        if pooling is Pooling.MAX:
            return torch.segment_reduce(own, "max", lengths=self.asarray(lengths))
        divisors = lengths.astype(np.float64)
        if pooling is Pooling.MEAN_SQRT_LENGTH:
            divisors = np.sqrt(divisors)
        if pooling is Pooling.WEIGHTED_MEAN:
            own = own * self.asarray(places + 1)[:, None]
            divisors = divisors * (divisors + 1) / 2
        total = torch.segment_reduce(own, "sum", lengths=self.asarray(lengths))
        return total / self.asarray(divisors.astype(np.float32))[:, None]

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Divide each row by its Euclidean length: (B, D) → (B, D)."""
        return functional.normalize(x, dim=-1, eps=1e-12)

    def top_k(self, x: torch.Tensor, k: int) -> tuple[NDArray[np.float32], Integers]:
        """Sort each row, and take the k greatest numbers and their indices: (B, V) → (B, k) each."""
        # Stable, so that the lower index comes first among equals.
        values, indices = x.sort(dim=-1, descending=True, stable=True)
        return self.to_numpy(values[:, :k]), self.to_numpy(indices[:, :k])

    def top_log_probabilities(self, x: torch.Tensor, k: int) -> tuple[NDArray[np.float32], Integers]:
        """Take the k greatest of the whole `log_softmax`: (B, V) → (B, k) each."""
        _, indices = self.top_k(x, k)
        values = self.log_softmax(x).gather(-1, self.asarray(indices))
        values = values.where(x.isfinite().all(dim=-1, keepdim=True), torch.nan)
        return self.to_numpy(values), indices

    def log_softmax(self, x: torch.Tensor) -> torch.Tensor:
        """Compute log-softmax of each row by torch: (B, V) → (B, V)."""
        return x.log_softmax(dim=-1)

    def all_finite(self, x: torch.Tensor) -> bool:
        """Check by torch that a tensor of any shape holds neither NaN nor infinity."""
        return bool(x.isfinite().all())


def _itself(x: torch.Tensor) -> torch.Tensor:
    return x
