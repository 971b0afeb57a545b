"""The main program of a benchmark: the cases that are wanted, one after another, and a report of them."""

import sys
from collections.abc import Callable, Sequence

from benchmarks.checkpoints import Workspace, workspace
from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import Comparison
from benchmarks.report import Arguments, Report, parse_arguments

Measure = Callable[[str, Workspace, Arguments, dict[str, str]], Sequence[Comparison]]
"""(case, place, arguments, facts to add to) → comparisons."""


def run_cases(description: str | None, cases: Sequence[str], title: str, measure: Measure) -> None:
    """Read the command line, measure, and print."""
    arguments = parse_arguments(description, cases)
    bystanders = Bystanders()
    facts: dict[str, str] = {}
    comparisons: list[Comparison] = []
    with workspace(keep=arguments.keep) as place:
        for case in filter(arguments.wanted, cases):
            found = measure(case, place, arguments, facts)
            print(*found, sep="\n", file=sys.stderr)  # for a run stopped before the report
            comparisons += found
    Report(
        title=title,
        machine=Machine.here(),
        pairs=arguments.pairs,
        comparisons=comparisons,
        facts={**facts, "other processes": str(bystanders)},
    ).print()
