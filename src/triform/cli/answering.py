"""Rows → answers in the order of the rows; a row without an answer stops the run, or gets an error in its place.

An interrupted run has the same batches, and so the same answers, as a run in one piece.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from triform.cli.forms import Form
from triform.cli.output import Output
from triform.cli.rows import Row
from triform.errors import InputError
from triform.tasks import Task
from triform.tasks.runner import Failure, OnError


@dataclass(frozen=True, kw_only=True, slots=True)
class Answering:
    """A task, the output of its answers, and the policy for rows that have none."""

    task: Task[Any, Any]
    form: Form
    output: Output
    on_error: OnError

    def run(self, rows: Iterator[Row]) -> None:
        """Answer all rows that the output does not hold yet.

        Raises:
            InputError: a row cannot be answered, and `on_error` is to stop.
        """
        runner = self.task.runner()
        answered = self.output.skip_answered(rows, runner.chunk_size)
        while True:
            chunk = [*answered, *islice(rows, runner.chunk_size - len(answered))]
            if len(chunk) == len(answered):
                return
            inputs = [row.value if row.error is None else Failure(row.error) for row in chunk]
            done = len(answered)
            for part in runner.parts(inputs, on_error=self.on_error, skip=done):
                self._write(chunk[done : done + len(part)], part)
                done += len(part)
            answered = []

    def _write(self, rows: list[Row], answers: list[Any]) -> None:
        """Write the answers of a part; a failure that stops the run is its last one."""
        last = answers[-1]
        stop = last if self.on_error is OnError.STOP and isinstance(last, Failure) else None
        if stop is not None:
            answers = answers[:-1]
        if answers:
            encoded = [self._encoded(row, answer) for row, answer in zip(rows, answers, strict=False)]
            failed = sum(isinstance(answer, Failure) for answer in answers)
            # A row that is mended may yet join the batch before it, so the rows of that batch are answered again.
            self.output.write(rows[: len(answers)], encoded, failed=failed, final=stop is None)
        if stop is not None:
            how = self.output.how_to_go_on()
            ways = f"\n{how} Mend the row first, or add --on-error skip." if how else ""
            raise InputError(f"{rows[-1].where}: {stop.error}{ways}")

    def _encoded(self, row: Row, answer: Any) -> bytes:
        if isinstance(answer, Failure):
            return self.form.encode_error(f"{row.where}: {answer.error}")
        return self.form.encode(answer)
