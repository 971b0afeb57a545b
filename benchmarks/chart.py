"""Draw the chart of the README: throughput of Triform and its peers.

The figures are the medians of the table in benchmarks/README.md.

    python -m benchmarks.chart [FILE]
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

CHART = Path(__file__).parents[1] / "docs" / "images" / "speed.svg"

TOKENS_PER_SECOND: Mapping[str, Mapping[str, int]] = {
    "MiniLM-L6, float32\n256 texts": {
        "Triform": 8_456,
        "transformers": 5_452,
        "ONNX Runtime": 6_647,
        "OpenVINO": 7_430,
        "CTranslate2": 7_508,
    },
    "MiniLM-L6, int8\n256 texts": {
        "Triform": 23_081,
        "ONNX Runtime": 16_291,
        "OpenVINO": 16_631,
        "CTranslate2": 12_203,
    },
    "Marian base, int8\n32 sentences, greedy": {"Triform": 2_089, "CTranslate2": 1_257},
    "Marian base, int8\n32 sentences, 4 beams": {"Triform": 735, "CTranslate2": 537},
}
"""Tokens per second by workload and runtime."""

COLOURS = {
    "Triform": "#c2410c",
    "transformers": "#94a3b8",
    "ONNX Runtime": "#64748b",
    "OpenVINO": "#475569",
    "CTranslate2": "#cbd5e1",
}


def draw(path: Path) -> None:
    """Draw a panel of bars for each workload."""
    # A fixed salt and no date: the same figures give the same file.
    plt.rcParams.update({"svg.hashsalt": "triform", "font.size": 9})
    figure, panels = plt.subplots(1, len(TOKENS_PER_SECOND), figsize=(10, 2.6), layout="constrained")
    for panel, (workload, figures) in zip(panels, TOKENS_PER_SECOND.items(), strict=True):
        bars = panel.bar(list(figures), list(figures.values()), color=[COLOURS[runtime] for runtime in figures])
        panel.bar_label(bars, labels=[f"{figure:,}" for figure in figures.values()], fontsize=8)
        panel.set_title(workload, fontsize=9)
        panel.tick_params(axis="x", rotation=35, length=0)
        panel.set_yticks([])
        panel.spines[["left", "right", "top"]].set_visible(False)
        panel.margins(y=0.12)
    figure.suptitle("Tokens per second on two cores (more is better)", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART)
