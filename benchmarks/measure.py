"""Fair timing: both sides take turns in one run, so that a noisy machine disturbs them alike.

Every second round goes in the opposite order, so that neither side always follows the other. What counts is the
median over the rounds of the ratio within each; the spread given beside a median is that from least to greatest.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

Result = TypeVar("Result")

PAIRS = 9
"""Fewer would leave the median to chance."""

SETTLE = 0.1
"""Seconds between runs: the idle threads of one library spin before they sleep, and would slow the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One figure, measured again and again."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle of the values."""
        return median(self.values)

    def __str__(self) -> str:
        return describe(self.values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One figure of both sides; values of the same index were measured one right after the other."""

    name: str
    unit: str
    triform: Sequence[float]
    transformers: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Triform's figure divided by that of transformers, pair by pair."""
        return [ours / theirs for ours, theirs in zip(self.triform, self.transformers, strict=True)]

    def shares(self, limit: float) -> str:
        """How much of a physical limit the medians reach."""
        ours, theirs = (100 * median(values) / limit for values in (self.triform, self.transformers))
        return f"Triform {ours:.0f} %, transformers {theirs:.0f} % of it"


def interleave(runs: Sequence[Callable[[], Result]], *, rounds: int) -> list[list[Result]]:
    """Call all of `runs` in turn, round after round.

    Returns:
        For each of `runs` its results, one for each round.
    """
    results: list[list[Result]] = [[] for _ in runs]
    for number in range(rounds):
        order = range(len(runs)) if number % 2 == 0 else reversed(range(len(runs)))
        for index in order:
            time.sleep(SETTLE)
            results[index].append(runs[index]())
    return results


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes by the clock on the wall."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def compare_throughput(
    name: str, triform: Callable[[], float], transformers: Callable[[], float], *, num_tokens: int, pairs: int
) -> Comparison:
    """Tokens per second of two runs that each handle `num_tokens` and say in how many seconds.

    The caller has run both before, so that nothing is measured cold.
    """
    ours, theirs = interleave([triform, transformers], rounds=pairs)
    return Comparison(
        name=name,
        unit="tokens/s",
        triform=[num_tokens / taken for taken in ours],
        transformers=[num_tokens / taken for taken in theirs],
    )


def describe(values: Sequence[float]) -> str:
    """The median, and in brackets the least and the greatest."""
    return f"{number(median(values))} ({number(min(values))} – {number(max(values))})"


def number(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
