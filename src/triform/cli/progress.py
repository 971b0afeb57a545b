"""How far a run has come, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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

from triform.cli.output import Output
from triform.cli.rows import Row
from triform.data.files import Source


class RowsColumn(ProgressColumn):
    """Rows that are answered, and how many in a second."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output, self._before = output, output.rows

    def render(self, task: Task) -> Text:
        speed = (self._output.rows - self._before) / max(task.elapsed or 0, 1e-3)
        return Text(f"{self._output.rows:,} rows  {speed:,.0f} rows/s")


@contextmanager
def progress(rows: Iterator[Row], source: Source, output: Output, *, answers_are_seen: bool) -> Iterator[Iterator[Row]]:
    """The rows, and while they are answered a bar of the bytes read, on standard error.

    There is none where standard error is no terminal, or where answers go to the same one.
    """
    if not sys.stderr.isatty() or (answers_are_seen and sys.stdout.isatty()):
        yield rows
        return
    size = source.packed_size
    columns = [SpinnerColumn(), RowsColumn(output), TimeElapsedColumn()]
    if size:
        columns += [BarColumn(), TextColumn("{task.percentage:.0f} %"), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=size)

        def followed() -> Iterator[Row]:
            for number, row in enumerate(rows):
                yield row
                if size and number % 64 == 0:
                    bar.update(task, completed=source.position)
            bar.update(task, completed=size)

        yield followed()
