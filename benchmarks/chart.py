"""Draw the chart of the README: throughput of Triform and its peers, from the table in benchmarks/README.md.

python -m benchmarks.chart [FILE]
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
CHART = ROOT / "docs" / "images" / "speed.svg"

PANELS = {
    "MiniLM-L6, 256 texts of mixed lengths, float32": "MiniLM-L6, float32\n256 texts",
    "MiniLM-L6, 256 texts of mixed lengths, int8": "MiniLM-L6, int8\n256 texts",
    "Marian-base shape, int8, 32 sentences, greedy": "Marian-base, int8\n32 sentences, greedy",
    "Marian-base shape, int8, 32 sentences, 4 beams": "Marian-base, int8\n32 sentences, 4 beams",
}
"""Rows of the table and titles of the panels."""

COLOURS = {
    "Triform": "#c2410c",
    "transformers": "#94a3b8",
    "ONNX Runtime": "#64748b",
    "OpenVINO": "#475569",
    "CTranslate2": "#cbd5e1",
}


def read_figures() -> Mapping[str, Mapping[str, int]]:
    """Read the tokens per second of each row in PANELS by runtime."""
    lines = (ROOT / "benchmarks" / "README.md").read_text().splitlines()
    rows = {
        cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines) if cells
    }
    return {
        row: {
            runtime: int(figure.replace(",", "")) for runtime, figure in zip(COLOURS, rows[row], strict=True) if figure
        }
        for row in PANELS
    }


def draw(path: Path) -> None:
    """Draw a panel of bars for each workload."""
    # A fixed salt and no date: the same figures give the same file.
    plt.rcParams.update({"svg.hashsalt": "triform", "font.size": 9})
    figure, panels = plt.subplots(1, len(PANELS), figsize=(10, 2.6), layout="constrained")
    for panel, (row, figures) in zip(panels, read_figures().items(), strict=True):
        bars = panel.bar(list(figures), list(figures.values()), color=[COLOURS[runtime] for runtime in figures])
        panel.bar_label(bars, labels=[f"{value:,}" for value in figures.values()], fontsize=8)
        panel.set_title(PANELS[row], fontsize=9)
        panel.tick_params(axis="x", rotation=35, length=0)
        panel.set_yticks([])
        panel.spines[["left", "right", "top"]].set_visible(False)
        panel.margins(y=0.12)
    figure.suptitle("Tokens per second on two cores (more is better)", fontsize=10)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART)
