"""What tracing records and interventions change."""

from collections.abc import Callable
from typing import Protocol

from triform.engines.protocol.arrays import Array

ProbabilityHook = Callable[[int, int, Array], Array]
"""(sequence, first query, probabilities (N, Q, keys)) → those to go on with. Called for consecutive queries."""


class Hook(Protocol):
    """What tracing records and interventions change; on the CPU engines the arithmetic is the same without one."""

    def wants(self, name: str) -> bool:
        """Whether to be shown the trace point of this name, such as `blocks.3.attention.query`."""

    def tensor(self, name: str, value: Array) -> Array:
        """Sees a tensor and returns the one to go on with."""

    def probabilities(self, name: str, sequence: int, first_query: int, value_NQK: Array) -> Array:
        """Sees attention probabilities of consecutive queries of one sequence, and returns those to go on with."""
