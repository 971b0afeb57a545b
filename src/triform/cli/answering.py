"""Rows → answers, in order, a batch at a time; a row that has none stops the run, or has an error in its place.

Batches are cut in the same places however often a run is interrupted, so that its answers are those of one that is not.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from triform.cli.forms import Form
from triform.cli.output import Output
from triform.cli.rows import Row
from triform.errors import InputError
from triform.inputs import Batch
from triform.tasks import Task


class OnError(StrEnum):
    """What to do about a row that cannot be answered."""

    STOP = "stop"
    """End there; what comes before is answered."""
    SKIP = "skip"
    """Say in the place of its answer what is wrong with it, and go on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answering:
    """A task, where its answers go and in which form, and what becomes of rows that have none."""

    task: Task[Any, Any]
    form: Form
    output: Output
    on_error: OnError

    def run(self, rows: Iterator[Row]) -> None:
        """Answer all rows that the output does not hold yet.

        Raises:
            InputError: a row cannot be answered, and `on_error` is to stop.
        """
        answered = self.output.skip_answered(rows, self.task.chunk)
        while True:
            chunk = [*answered, *islice(rows, self.task.chunk - len(answered))]
            if len(chunk) == len(answered):
                return
            self._answer(chunk, skip=len(answered))
            answered = []

    def _answer(self, rows: list[Row], skip: int, *, is_chunk: bool = True) -> None:
        """Answer the rows of a chunk, or those before one that stops the run, without the first `skip`."""
        batches, errors = self._batches(rows)
        if (stop := self._stop(errors, skip)) is not None:
            self._answer(rows[:stop], skip, is_chunk=False)
            raise self._stopped(rows[stop], errors[stop])
        sound = iter([number for number in range(len(rows)) if number not in errors])
        written = skip
        for position, batch in enumerate(batches, 1):
            numbers = list(islice(sound, self.task.num_inputs(batch)))
            end = numbers[-1] + 1
            if end <= written:
                continue
            answers = self._run(batch, [(number, rows[number]) for number in numbers], errors)
            if (stop := self._stop(errors, skip)) is not None:
                self._write(rows, range(written, stop), answers, errors, final=False)
                raise self._stopped(rows[stop], errors[stop])
            # A row that is mended may yet join the last batch before it.
            self._write(rows, range(written, end), answers, errors, final=is_chunk or position < len(batches))
            written = end
        self._write(rows, range(written, len(rows)), {}, errors)

    def _batches(self, rows: list[Row]) -> tuple[list[Batch], dict[int, str]]:
        """The batches of all rows that can be read, and what is wrong with the others."""
        errors = {number: row.error for number, row in enumerate(rows) if row.error is not None}
        sound = [number for number in range(len(rows)) if number not in errors]
        try:
            return self._batches_of(rows[number] for number in sound), errors
        except InputError:
            for number in sound:
                try:
                    self._batches_of([rows[number]])
                except InputError as error:
                    errors[number] = self._of_one(error)
            return self._batches_of(rows[number] for number in sound if number not in errors), errors

    def _batches_of(self, rows: Iterable[Row]) -> list[Batch]:
        values = [row.value for row in rows]
        return list(self.task.batches(values, self.task.options)) if values else []

    def _run(self, batch: Batch, rows: list[tuple[int, Row]], errors: dict[int, str]) -> dict[int, bytes]:
        """The answers of a batch by the numbers of its rows; where it has none, each row is tried alone."""
        try:
            answers = self.task.answers(batch, self.task.options)
        except InputError as error:
            if len(rows) == 1:
                errors[rows[0][0]] = self._of_one(error)
                return {}
            found: dict[int, bytes] = {}
            for number, row in rows:
                [alone] = self._batches_of([row])
                found |= self._run(alone, [(number, row)], errors)
            return found
        return {number: self.form.encode(answer) for (number, _), answer in zip(rows, answers, strict=True)}

    def _write(
        self, rows: list[Row], which: range, answers: dict[int, bytes], errors: dict[int, str], *, final: bool = True
    ) -> None:
        encoded = [
            self.form.encode_error(f"{rows[number].where}: {errors[number]}") if number in errors else answers[number]
            for number in which
        ]
        if encoded:
            failed = sum(number in errors for number in which)
            self.output.write(rows[which.start : which.stop], encoded, failed=failed, final=final)

    def _stop(self, errors: dict[int, str], skip: int) -> int | None:
        """The row that stops the run, if one does; an earlier run may have passed over those it answered."""
        if self.on_error is OnError.SKIP:
            return None
        return min((number for number in errors if number >= skip), default=None)

    def _stopped(self, row: Row, error: str) -> InputError:
        how = self.output.how_to_go_on()
        ways = f"\n{how} Mend the row first, or add --on-error skip." if how else ""
        return InputError(f"{row.where}: {error}{ways}")

    def _of_one(self, error: InputError) -> str:
        """What is wrong with a row, whose only text needs no number."""
        return str(error) if self.task.fields else re.sub("^Text 0 ", "the text ", str(error))
