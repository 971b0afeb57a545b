"""Log of a run: a line of JSON for each step and each evaluation, and a picture of the loss."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from triform.replacing import writing

Record = Mapping[str, Any]
"""Record of a step, an evaluation or the end.

A step has `step` (counted from 1), `loss`, `learning_rate`, `gradient_norm`, and `tokens` and `seconds` so far. An
evaluation has `step` and `scores`. The end has `step` and `ended`, which is `steps` or `patience`."""


class Log:
    """A file of records.

    Arguments:
        path: path of the file; None for a process that writes no log.
        step: step of the checkpoint that the run is resumed from; records of later steps are removed, because those
            steps are repeated.
    """

    def __init__(self, path: Path | None, *, step: int) -> None:
        self.seconds = 0.0
        """Time that all steps took."""
        self._file = None
        self._path = path
        if path is None:
            return
        kept = [record for record in read_log(path) if record["step"] <= step and "ended" not in record]
        self.seconds = max((record.get("seconds", 0.0) for record in kept), default=0.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text("".join(map(_line, kept)), encoding="utf-8")
        os.replace(partial, path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, record: Record) -> Record:
        """Append a record, and return the record."""
        if self._path is not None and self._file is not None:
            with writing(self._path, "Make room, and train again with --resume."):
                self._file.write(_line(record))
                self._file.flush()
        return record

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # a record for which there was no room
                self._file.close()


def read_log(path: Path) -> list[Record]:
    """Read the records of a log, without a last line cut off by the end of the process."""
    return list(_records(path)) if path.is_file() else []


def has_ended(path: Path) -> bool:
    """Check whether the run of a log came to an end."""
    return any("ended" in record for record in read_log(path))


def _records(path: Path) -> Iterator[Record]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def draw_curve(records: Sequence[Record], path: Path) -> None:
    """Draw the training loss and each score by step, as a PNG picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [record for record in records if "loss" in record]
    evaluations = [record for record in records if "scores" in record]
    names = list(evaluations[0]["scores"]) if evaluations else []
    figure = Figure(figsize=(8, 3 + 2 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    first, *others = figure.subplots(1 + len(names), sharex=True, squeeze=False)[:, 0]
    first.plot([record["step"] for record in steps], [record["loss"] for record in steps], linewidth=0.8)
    first.set_ylabel("training loss")
    for axes, name in zip(others, names, strict=True):
        points = [(record["step"], record["scores"][name]) for record in evaluations]
        axes.plot(*zip(*points, strict=True), marker="o")
        axes.set_ylabel(name)
    (others or [first])[-1].set_xlabel("step")
    with writing(path, "Make room, and train again with --resume."):
        figure.savefig(path, dpi=100)
