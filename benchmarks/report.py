"""The output of a benchmark: tables for people, and a line of JSON, from which `run_all` makes the tables again."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import Machine
from benchmarks.measure import OURS, PAIRS, Comparison, Series, describe
from benchmarks.peers import NAMES

COLUMNS = ("", "", "unit", "median (least – greatest)", "Triform ÷ it")
SERIES_COLUMNS = ("", "unit", "median (least – greatest)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The outcome of a benchmark."""

    title: str
    machine: Machine
    pairs: int
    comparisons: Sequence[Comparison]
    facts: Mapping[str, str]
    """The machine, the physical limits, and the agreement of the answers."""
    series: Sequence[Series] = ()
    """Figures without a counterpart on the peer's side."""

    @classmethod
    def from_json(cls, line: str) -> "Report":
        """Invert `to_json`."""
        fields: dict[str, Any] = json.loads(line)
        machine = Machine(**fields.pop("machine"))
        comparisons = [Comparison(**own) for own in fields.pop("comparisons")]
        series = [Series(**own) for own in fields.pop("series")]
        return cls(machine=machine, comparisons=comparisons, series=series, **fields)

    def to_json(self) -> str:
        """Serialise the report, every single value included, on one line."""
        return json.dumps(_rounded(asdict(self)), ensure_ascii=False)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the cells below `COLUMNS`: a row for each side of each comparison."""
        return [
            (own.name if not index else "", side, own.unit, describe(values), _ratio(own, side))
            for own in self.comparisons
            for index, (side, values) in enumerate(own.values.items())
        ]

    def series_rows(self) -> list[tuple[str, ...]]:
        """Return the cells below `SERIES_COLUMNS`."""
        return [(own.name, own.unit, str(own)) for own in self.series]

    def print(self) -> None:
        """Print tables and facts; the last line is the JSON."""
        console = Console(width=140)
        console.print(_table(self.title, COLUMNS, self.rows()))
        if self.series:
            console.print(_table("", SERIES_COLUMNS, self.series_rows()))
        for name, fact in self.facts.items():
            console.print(f"{name}: {fact}", markup=False, highlight=False)
        print(self.to_json(), flush=True)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments common to every benchmark."""

    pairs: int
    quick: bool
    only: tuple[str, ...]
    peers: tuple[str, ...]
    keep: bool

    def wanted(self, case: str) -> bool:
        """Return whether the name of a case begins with an entry of `only`; True if `only` is empty."""
        return not self.only or case.startswith(self.only)

    def chosen(self, peers: Sequence[str]) -> list[str]:
        """Return the selected entries of `peers`."""
        return [peer for peer in peers if not self.peers or peer in self.peers]


def parse_arguments(description: str | None, cases: Sequence[str], *, pairs: int = PAIRS) -> Arguments:
    """Read the command line; the default is `pairs` pairs, or one for a quick run."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, help=f"times each side is measured (default {pairs}, with --quick 1)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it works; the figures mean nothing"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="CASE", help=f"cases, or how they begin: {', '.join(cases)}"
    )
    parser.add_argument("--peers", nargs="+", default=[], choices=sorted(NAMES), help="instead of all")
    parser.add_argument(
        "--keep", action="store_true", help="leave converted models and the settings found for the next run"
    )
    given = parser.parse_args()
    for start in given.only:
        if not any(case.startswith(start) for case in cases):
            parser.error(f"--only: no case begins with {start!r}. Choose from {', '.join(cases)}.")
    chosen = given.pairs or (1 if given.quick else pairs)
    return Arguments(chosen, given.quick, tuple(given.only), tuple(given.peers), given.keep)


def _ratio(comparison: Comparison, side: str) -> str:
    ratios = comparison.ratios(side) if side != OURS else []
    return describe(ratios) if ratios else ""


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < len(columns) - 2 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {key: _rounded(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_rounded(inner) for inner in value]
        case _:
            return value
