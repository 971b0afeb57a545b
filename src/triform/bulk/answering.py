"""Rows → answers, in order, chunk by chunk; a row without an answer stops the run, or gets an error.

Batches are cut at the same rows however often a run is interrupted, so that a resumed run writes the same bytes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from triform.bulk.writers import AnswerWriter, Summary
from triform.data import Row
from triform.errors import InputError
from triform.inputs import Batch
from triform.tasks import Task


class ErrorPolicy(StrEnum):
    """The treatment of a row without an answer."""

    STOP = "stop"
    """End the run there; the rows before are answered."""
    SKIP = "skip"
    """Write the error in the place of the answer, and continue."""


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
        while True:
            chunk = [*answered, *islice(rows, self.task.chunk - len(answered))]
            if len(chunk) == len(answered):
                return
            self._answer_chunk(chunk, skip=len(answered))
            answered = ()

    def _answer_chunk(self, rows: list[Row], skip: int, *, is_whole: bool = True) -> None:
        """Answer a chunk, or its rows before the one that stops the run, without the first `skip` rows."""
        batches, errors = self._cut(rows)
        if (stop := self._first_to_stop(errors, skip)) is not None:
            self._answer_chunk(rows[:stop], skip, is_whole=False)
            raise self._stopped(rows[stop], errors[stop])
        sound = iter([number for number in range(len(rows)) if number not in errors])
        written = skip
        for position, batch in enumerate(batches, 1):
            numbers = list(islice(sound, self.task.num_inputs(batch)))
            end = numbers[-1] + 1
            if end <= written:
                continue
            answers = self._answer_batch(batch, [(number, rows[number]) for number in numbers], errors)
            if (stop := self._first_to_stop(errors, skip)) is not None:
                self._write(rows, range(written, stop), answers, errors, final=False)
                raise self._stopped(rows[stop], errors[stop])
            # Once the row that stops the run is mended, it may join the last batch before it.
            self._write(rows, range(written, end), answers, errors, final=is_whole or position < len(batches))
            written = end
        self._write(rows, range(written, len(rows)), {}, errors)

    def _cut(self, rows: list[Row]) -> tuple[list[Batch], dict[int, str]]:
        """Cut the readable rows into batches; return these, and row number → error of the other rows."""
        errors = {number: row.error for number, row in enumerate(rows) if row.error is not None}
        sound = [number for number in range(len(rows)) if number not in errors]
        try:
            return self._batches(rows[number] for number in sound), errors
        except InputError:
            for number in sound:
                try:
                    self._batches([rows[number]])
                except InputError as error:
                    errors[number] = self._message(error)
            return self._batches(rows[number] for number in sound if number not in errors), errors

    def _batches(self, rows: Iterable[Row]) -> list[Batch]:
        inputs = [row.values for row in rows]
        return list(self.task.batches(inputs, self.task.options)) if inputs else []

    def _answer_batch(self, batch: Batch, rows: list[tuple[int, Row]], errors: dict[int, str]) -> dict[int, bytes]:
        """Row number → answer for the rows of a batch; if the batch fails, each row is tried alone."""
        try:
            answers = self.task.answers(batch, self.task.options)
        except InputError as error:
            if len(rows) == 1:
                errors[rows[0][0]] = self._message(error)
                return {}
            found: dict[int, bytes] = {}
            for number, row in rows:
                [alone] = self._batches([row])
                found |= self._answer_batch(alone, [(number, row)], errors)
            return found
        encode = self.writer.format.encode
        return {number: encode(answer) for (number, _), answer in zip(rows, answers, strict=True)}

    def _write(
        self, rows: list[Row], numbers: range, answers: dict[int, bytes], errors: dict[int, str], *, final: bool = True
    ) -> None:
        encode_error = self.writer.format.encode_error
        encoded = [
            encode_error(f"{rows[number].where}: {errors[number]}") if number in errors else answers[number]
            for number in numbers
        ]
        if encoded:
            failed = sum(number in errors for number in numbers)
            self.writer.write(rows[numbers.start : numbers.stop], encoded, failed=failed, final=final)
            self.progress(self.writer.summary)

    def _first_to_stop(self, errors: dict[int, str], skip: int) -> int | None:
        """The number of the row that stops the run; None without one. A resumed run keeps the errors it has written."""
        if self.on_error is ErrorPolicy.SKIP:
            return None
        return min((number for number in errors if number >= skip), default=None)

    def _stopped(self, row: Row, message: str) -> InputError:
        error = InputError(f"{row.where}: {message}")
        if self.writer.note:
            error.add_note('Mend the row, or skip such rows: on_error="skip".')
        return error

    def _message(self, error: InputError) -> str:
        """The error of a lone row, whose only text needs no number."""
        return str(error) if self.task.fields else re.sub("^Text 0 ", "the text ", str(error))
