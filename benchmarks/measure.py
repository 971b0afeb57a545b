"""Fair timing: all sides take turns in the same run, so that a noisy machine disturbs all sides alike.

Every second round goes in the opposite order, so that none always follows the same other. What counts is the
median over the rounds of the ratio within each; the spread given beside a median is that from least to greatest.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

Result = TypeVar("Result")

PAIRS = 9
"""Fewer would leave the median to chance."""

OURS = "Triform"

SETTLE = 0.25
"""Seconds between runs: the idle threads of a library spin before they sleep, those of OpenMP for 0.2 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A figure with repeated measurements."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """Return the median of the values."""
        return median(self.values)

    def __str__(self) -> str:
        return describe(self.values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A figure of several sides; a round measured the values of the same index."""

    name: str
    unit: str
    values: Mapping[str, Sequence[float]]
    """Side → values. Triform is missing if the engine lacks the format."""

    def ratios(self, side: str) -> list[float]:
        """Divide Triform's figure by a peer's, round by round; empty if either is missing."""
        ours, theirs = self.values.get(OURS, ()), self.values.get(side, ())
        return [own / other for own, other in zip(ours, theirs, strict=False)]

    def __str__(self) -> str:
        sides = (f"{side} {describe(values)}" for side, values in self.values.items())
        return f"{self.name}, {self.unit}: {', '.join(sides)}"

    def shares(self, limit: float) -> str:
        """Format the share of a physical limit that the medians reach."""
        shares = (f"{side} {100 * median(values) / limit:.0f} %" for side, values in self.values.items())
        return ", ".join(shares) + " of it"


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
    """Measure the duration of a call by the wall clock."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def compare(
    name: str, runs: Mapping[str, Callable[[], float]], *, pairs: int, unit: str = "tokens/s", amount: float = 0
) -> Comparison:
    """Measure all sides in turn.

    The caller has run each before, so that nothing is measured cold.

    Args:
        name: what is compared.
        runs: side → what returns one value; with an `amount`, the seconds it took to handle that many of the unit.
        pairs: how many rounds.
        unit: of the outcome.
        amount: what each run handles; 0 where a value is itself the outcome.
    """
    rounds = interleave(list(runs.values()), rounds=pairs)
    values = [[amount / taken for taken in own] if amount else own for own in rounds]
    return Comparison(name=name, unit=unit, values=dict(zip(runs, values, strict=True)))


def describe(values: Sequence[float]) -> str:
    """Format the median, and in brackets the least and the greatest."""
    return f"{number(median(values))} ({number(min(values))} – {number(max(values))})"


def number(value: float) -> str:
    """Format three digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
