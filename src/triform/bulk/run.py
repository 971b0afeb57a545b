"""Runs over many rows: from a file, through a task, to a file; resumable."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from triform.bulk.answering import RowAnswerer
from triform.bulk.columns import InputColumns
from triform.bulk.formats import AnswerFormat, choose_format
from triform.bulk.inputs import INPUT_FORMATS, read_inputs
from triform.bulk.writers import AnswerWriter, FileWriter, IfExists, StreamWriter, Summary, needs_run
from triform.data import FileFormat, Row, Source
from triform.errors import InputError
from triform.tasks import Task
from triform.tasks.runner import ErrorPolicy
from triform.version import __version__

Choice = TypeVar("Choice", bound=StrEnum)


def answer_file(
    task: Task[Any, Any],
    input: str | Path,
    output: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    input_format: FileFormat | str | None = None,
    on_error: ErrorPolicy | str = ErrorPolicy.STOP,
    if_exists: IfExists | str = IfExists.FAIL,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary | None:
    """Answer the rows of a file, and write the answers to a file, in the order of the rows.

    Rows are read as they are needed, so that memory does not grow with the file. Until the output is complete, the
    answers are in OUTPUT.part. After an interruption, `kill -9` too, the same call with `if_exists="resume"` continues;
    the bytes of the output are those of a run without interruption.

    Arguments:
        task: the task, whose own options hold for all rows.
        input: a .txt, .csv, .tsv or .jsonl file, compressed with gzip if its name ends in .gz; "-" is standard input.
        output: the file of the answers: JSON in .jsonl, a float32 array of vectors in .npy, else text.
        columns: field of the task → column of the table, or key of the objects. Without it, a plain text is in the
            column text (with text_pair) or in the only column, and the fields of an object have their own names.
        input_format: txt, csv, tsv or jsonl; by default as the input's name says, else txt, or jsonl for a task that
            reads objects.
        on_error: "stop" at a row that cannot be answered, or "skip" it: its error is written in the place of the answer
            (NaN in .npy).
        if_exists: for an output that exists, complete or unfinished: "fail", "resume" or "overwrite".
        settings: the arguments that the model was loaded with, such as dtype or adapter. A resumed run must have the
            same; the model's files and the task's options are compared in any case.
        progress: called with the rows so far, before the first row and after each batch.

    Returns:
        The number of rows, and of rows with an error; None where a run to be resumed was complete already.

    Raises:
        InputError: a row cannot be answered and `on_error` is "stop"; the input is empty, damaged or lacks a column;
            the output exists and `if_exists` is "fail"; or a run to be resumed had other rows, settings or model files.
            A note on the error says how many rows are answered.
        OutputError: an answer cannot be written. The answers before stay, and a run can be resumed.
    """
    with Source(input) as source:
        format = None if input_format is None else _choose("input_format", input_format, INPUT_FORMATS)
        rows = read_inputs(source, InputColumns(type(task), columns or {}), format)
        return answer_rows(
            task,
            rows,
            Path(output),
            on_error=_choose("on_error", on_error, tuple(ErrorPolicy)),
            if_exists=_choose("if_exists", if_exists, tuple(IfExists)),
            settings=settings,
            progress=progress,
        )


def answer_rows(
    task: Task[Any, Any],
    rows: Iterable[Row],
    output: Path | BinaryIO,
    *,
    json: bool = False,
    on_error: ErrorPolicy = ErrorPolicy.STOP,
    if_exists: IfExists = IfExists.FAIL,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Summary], None] | None = None,
) -> Summary | None:
    """Answer rows of inputs, and write the answers to a file or a stream, in the order of the rows.

    Result, errors and the other arguments are those of `answer_file`.

    Arguments:
        rows: rows whose values are inputs of the task.
        output: the file of the answers, or a stream, which cannot be resumed.
        json: whether to write JSON whatever the output's name is.
    """
    progress = progress or _ignore
    path = output if isinstance(output, Path) else None
    if path is not None and not needs_run(path, if_exists):
        return None
    task.check_options(task.options)
    format = choose_format(task, path, json=json)
    with ExitStack() as stack:
        writer = _open_writer(task, output, format, settings or {}, if_exists, stack)
        remaining = iter(rows)
        answered = writer.skip_answered(remaining, task.runner().chunk_size)
        progress(writer.summary)
        try:
            answerer = RowAnswerer(task=task, writer=writer, on_error=on_error, progress=progress)
            answerer.answer(remaining, answered)
            writer.finish()
        except BaseException as error:
            if writer.note:
                error.add_note(writer.note)
            raise
    return writer.summary


def _ignore(summary: Summary) -> None:
    """Show no progress."""


def _choose(name: str, value: str, choices: Sequence[Choice]) -> Choice:
    """Find the choice that an argument names.

    Raises:
        InputError: the value is none of the choices.
    """
    if value not in choices:
        raise InputError(f"{name}={value!r}: expected one of {', '.join(choices)}.")
    return choices[choices.index(value)]  # the enum, where the value is an equal string


def _open_writer(
    task: Task[Any, Any],
    output: Path | BinaryIO,
    format: AnswerFormat,
    settings: Mapping[str, Any],
    if_exists: IfExists,
    stack: ExitStack,
) -> AnswerWriter:
    """Open the writer of a file, or of the stream that a path such as /dev/stdout stands for.

    Raises:
        InputError: the output cannot be opened, or not be resumed.
    """
    resume = if_exists is IfExists.RESUME
    if isinstance(output, Path) and (os.path.isfile(output) or not os.path.exists(output)):
        writer = FileWriter(output, format, _settings(task, format, settings), resume=resume)
        stack.callback(writer.close)
        return writer
    if not isinstance(output, Path):
        return StreamWriter(output, format)
    if resume:
        raise InputError(f"{output} is not a regular file, so that a run into it cannot be resumed.")
    try:
        return StreamWriter(stack.enter_context(open(output, "wb")), format)
    except OSError as error:
        raise InputError(f"{output} cannot be opened: {error.strerror}.") from error


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Return path, size and time of each file."""
    files = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return [(str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns) for path, stat in files]


def _settings(task: Task[Any, Any], format: AnswerFormat, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Collect everything besides the rows that the answers depend on."""
    checkpoint = task.model.checkpoint
    folder = checkpoint.folder
    folders = [folder] if checkpoint.adapter is None else [folder, checkpoint.adapter.folder]
    stamps = repr([_stamps(own) for own in folders])
    options = {option.name: getattr(task.options, option.name) for option in fields(task.options)}
    defaults = {option.name: option.default for option in fields(task.options)}
    return {
        "triform": __version__,
        "task": task.name,
        "model": str(folder.resolve()),
        "files of the model": hashlib.blake2b(stamps.encode(), digest_size=8).hexdigest(),
        "format": format.name,
        **settings,
        **{name: value for name, value in options.items() if value != defaults[name]},
    }
