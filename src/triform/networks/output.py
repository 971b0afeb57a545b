"""The outputs of a forward pass."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from triform.engines import Array, Hook, Integers, Selection, Spans
from triform.errors import InputError
from triform.networks.context import EncoderMemory


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderOutput:
    """Encoder states of an encoder-decoder: `model(states, target)` takes them in place of the source."""

    last_hidden_state: Array
    """(T, D) packed"""
    spans: Spans
    """The rows of each sequence."""
    hidden_states: tuple[Array, ...] | None = None
    """(T, D) after the embedding and after each block, the last one after the final norm; if asked for."""
    memory: EncoderMemory = field(repr=False)

    def split(self, name: str) -> list[Array]:
        """Split the packed array `name`, (T, D), into an array for each sequence."""
        return _split(self, name, {"last_hidden_state": self.spans})

    def select(self, sequences: Integers) -> "EncoderOutput":
        """Select sequences by number, (B,), in the order given and with repeats; nothing is copied."""
        return replace(self, spans=self.spans.select(sequences), memory=self.memory.select(sequences))


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """Tensors of a batch, as arrays of the engine: NumPy on a CPU."""

    last_hidden_state: Array
    """(T, D) packed"""
    spans: Spans
    """The rows of each sequence in `last_hidden_state`."""
    logits: Array | None = None
    """(T, V) of a token-level head, or the rows of `logits_at`; (B, labels) of a sequence head; None without a head."""
    logits_spans: Spans | None = None
    """The rows of each sequence in `logits`."""
    hidden_states: tuple[Array, ...] | None = None
    """(T, D) after the embedding and after each block, the last one after the final norm; if asked for."""
    encoder: EncoderOutput | None = None
    """The encoder's output, in an encoder-decoder."""

    def split(self, name: str) -> list[Array]:
        """Split "last_hidden_state", (T, D), or "logits", (T, V), into an array for each sequence."""
        return _split(self, name, {"last_hidden_state": self.spans, "logits": self.logits_spans})


def _split(output: Any, name: str, spans: dict[str, Spans | None]) -> list[Array]:
    if name not in spans:
        raise InputError(f"split({name!r}): expected one of {', '.join(spans)}.")
    chosen = spans[name]
    if chosen is None:
        raise InputError(f"split({name!r}): this model has no head, so there are no {name}.")
    packed = getattr(output, name)
    return [packed[begin:end] for begin, end in chosen.pairs()]


class HiddenStates(Hook):
    """A recorder of the tensors at some trace points, after an optional inner hook."""

    def __init__(self, names: Collection[str], inner: Hook | None) -> None:
        self._names = list(names)
        self._inner = inner
        self._seen: dict[str, Array] = {}

    def enter(self, stack: str, spans: Spans, starts: Integers) -> None:
        """Pass the stack, the spans and the (B,) starts on to the inner hook."""
        if self._inner is not None:
            self._inner.enter(stack, spans, starts)

    def wants(self, name: str) -> bool | Selection:
        """Want the recorded trace points, and the trace points of the inner hook."""
        return name in self._names or (self._inner is not None and self._inner.wants(name))

    def tensor(self, name: str, value: Array) -> Array:
        """Show a tensor of any shape to the inner hook, and record the returned tensor."""
        if self._inner is not None and self._inner.wants(name):
            value = self._inner.tensor(name, value)
        if name in self._names:
            self._seen[name] = value
        return value

    def probabilities(self, name: str, sequence: int, first_query: int, value_NQK: Array) -> Array:
        """Pass probabilities, (N, Q, K), on to the inner hook."""
        assert self._inner is not None, "only the inner hook wants probabilities"
        return self._inner.probabilities(name, sequence, first_query, value_NQK)

    def collect(self) -> tuple[Array, ...]:
        """Return the tensors, (T, D) each, in the order of the names."""
        return tuple(self._seen[name] for name in self._names)
