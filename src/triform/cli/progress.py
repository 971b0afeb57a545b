"""The progress bar of a run over many rows."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from triform.bulk import Summary
from triform.data import Row, Source


def is_shown(output: Path | None) -> bool:
    """Decide whether to show progress: standard error is a terminal, and the answers go elsewhere."""
    is_stream = output is None or (os.path.exists(output) and not os.path.isfile(output))
    return sys.stderr.isatty() and not (is_stream and sys.stdout.isatty())


class ProgressBar:
    """Shows on standard error how many rows are answered, and how many bytes of the input are read.

    A context manager, which shows the bar until it is left; called with the rows so far.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rows = RowsColumn()
        columns = [SpinnerColumn(), self._rows, TimeElapsedColumn()]
        if source.num_bytes:
            columns += [BarColumn(), TextColumn("{task.percentage:.0f} %"), TextColumn("left"), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=source.num_bytes)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, summary: Summary) -> None:
        """Show the rows so far."""
        self._rows.show(summary.rows)

    def follow(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Pass the rows on, and show the bytes that were read for them."""
        num_bytes = self._source.num_bytes
        for number, row in enumerate(rows):
            yield row
            if num_bytes and number % 64 == 0:
                self._bar.update(self._task, completed=self._source.position)
        self._bar.update(self._task, completed=num_bytes)


class RowsColumn(ProgressColumn):
    """Shows the rows that are answered, and the rows answered in a second by this run."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = 0
        self._rows_before: int | None = None

    def show(self, rows: int) -> None:
        """Take the number of rows; the first is what an earlier run has answered."""
        self._rows = rows
        self._rows_before = rows if self._rows_before is None else self._rows_before

    def render(self, task: Task) -> Text:
        speed = (self._rows - (self._rows_before or 0)) / max(task.elapsed or 0, 1e-3)
        return Text(f"{self._rows:,} rows  {speed:,.0f} rows/s")
