"""Run every benchmark, one after another, and file the results as `benchmarks/results/ENGINE_cpu_DATE.md`.

Each runs in a process of its own, so that none inherits memory or threads from another. Nothing else should run on
the machine meanwhile. A quick run prints the page instead of filing it.

    [TRIFORM_ENGINE=reference] python -m benchmarks.run_all [--only SCRIPT …] [--pairs N] [--quick] [--keep]
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ours import ENGINE
from benchmarks.report import COLUMNS, SERIES_COLUMNS, Arguments, Report, parse_arguments
from triform.engines import create_engine

BENCHMARKS = ("encoder", "sentence", "encoder_decoder", "decoder", "products", "start")
RESULTS = Path(__file__).parent / "results"


def run(name: str, arguments: Arguments) -> Report:
    """Run a benchmark, show the output, and read the last line."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--pairs", str(arguments.pairs)]
    command += ["--quick"] if arguments.quick else []
    command += ["--keep"] if arguments.keep else []
    command += ["--peers", *arguments.peers] if arguments.peers else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = ""
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"benchmarks.{name} failed with exit code {process.returncode}.")
    return Report.from_json(line)


def page(reports: Sequence[Report]) -> str:
    """Format the results in Markdown."""
    machine = reports[0].machine
    sections = [
        f"# Triform's {create_engine(ENGINE).name} engine and its peers on a CPU, {machine.date}",
        "\n".join(
            [
                f"- CPU: {machine.cpu}, {machine.cores} cores used ({', '.join(machine.flags)})",
                f"- Memory: {machine.memory_gib:.0f} GiB",
                "- Versions: " + ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
            ]
        ),
        "All sides took turns in one run. Each cell is a median, with the least and the greatest value in brackets; "
        "the last column is the median of the ratios within rounds. What was measured, and what limits it, is said at "
        "the top of each `benchmarks/*.py`.",
    ]
    for report in reports:
        sections += [f"## {report.title}", f"Pairs: {report.pairs}.", _table(COLUMNS, report.rows())]
        if report.series:
            sections.append(_table(SERIES_COLUMNS, report.series_rows()))
        sections.append("\n".join(f"- {name}: {fact}" for name, fact in report.facts.items()))
    sections += ["## Every value", "```json\n" + "\n".join(report.to_json() for report in reports) + "\n```"]
    return "\n\n".join(sections) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = [*("---" for _ in columns[2:]), "---:", "---:"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


def main() -> None:
    arguments = parse_arguments(__doc__, BENCHMARKS)
    reports = [run(name, arguments) for name in BENCHMARKS if arguments.wanted(name)]
    text = page(reports)
    if arguments.quick:
        print(text)
        return
    RESULTS.mkdir(exist_ok=True)
    engine = create_engine(ENGINE).name
    (RESULTS / f"{engine}_cpu_{reports[0].machine.date}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
