"""Rows → answers, in order, chunk by chunk; a row without an answer stops the run, or gets an error.

Batches are cut at the same rows however often a run is interrupted, so that a resumed run writes the same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from triform.bulk.writers import AnswerWriter, Summary, row_values
from triform.data import Row
from triform.errors import InputError
from triform.tasks import Task
from triform.tasks.runner import ErrorPolicy, Failure, take_chunk


@dataclass(frozen=True, kw_only=True, slots=True)
class RowAnswerer:
    """Answers rows with a task and hands the answers to a writer."""

    task: Task[Any, Any]
    writer: AnswerWriter
    on_error: ErrorPolicy
    progress: Callable[[Summary], None]
    """Called after each batch."""

    def answer(self, rows: Iterator[Row], answered: Sequence[Row] = ()) -> None:
        """Answer all rows.

        Arguments:
            rows: the rows to be answered.
            answered: the rows of the first chunk that an earlier run has answered.

        Raises:
            InputError: a row cannot be answered, and `on_error` is to stop.
        """
        runner = self.task.runner()
        while True:
            chunk = take_chunk(chain(answered, rows), runner.chunk_size, row_values)
            if len(chunk) == len(answered):
                runner.warn_of_cuts()
                return
            inputs = [row.values if row.error is None else Failure(row.error) for row in chunk]
            done = len(answered)
            for part in runner.parts(inputs, on_error=self.on_error, skip=done):
                self._write(chunk[done : done + len(part)], part)
                done += len(part)
            answered = ()

    def _write(self, rows: list[Row], answers: list[Any]) -> None:
        """Write the answers of a part; a failure that stops the run comes last."""
        last = answers[-1]
        stop = last if self.on_error is ErrorPolicy.STOP and isinstance(last, Failure) else None
        if stop is not None:
            answers = answers[:-1]
        if answers:
            encoded = [self._encode(row, answer) for row, answer in zip(rows, answers, strict=False)]
            failed = sum(isinstance(answer, Failure) for answer in answers)
            # Once the row that stops the run is mended, it may join the batch before it, which is answered again.
            self.writer.write(rows[: len(answers)], encoded, failed=failed, final=stop is None)
            self.progress(self.writer.summary)
        if stop is not None:
            error = InputError(f"{rows[len(answers)].where}: {stop.error}")
            if self.writer.note:
                error.add_note('Mend the row, or skip such rows: on_error="skip".')
            raise error

    def _encode(self, row: Row, answer: Any) -> bytes:
        if isinstance(answer, Failure):
            return self.writer.format.encode_error(f"{row.where}: {answer.error}")
        return self.writer.format.encode(answer)
