"""`triform run TASK`: one command for each task, its options read off the task itself."""

import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from inspect import Parameter, getdoc
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import typer

from triform.bulk import ErrorPolicy, IfExists, Summary, answer_rows
from triform.bulk.columns import InputColumns
from triform.bulk.inputs import INPUT_FORMATS, read_inputs
from triform.bulk.writers import needs_run
from triform.cli.arguments import parse_columns, read_texts
from triform.cli.options import LOADING, options_of, set_parameters
from triform.cli.parameters import Debug, Json, ModelOption, OptionalModel
from triform.cli.progress import ProgressBar, is_shown
from triform.cli.streams import answer_stream
from triform.data import FileFormat, Source
from triform.demo import demo_for
from triform.errors import InputError
from triform.tasks import ALIASES, TASKS, Task, find_task

EPILOG = """
Examples:

triform run embed "A cat sat on the mat." "Ein Hund." --model MODEL

triform run sentiment-analysis --input reviews.csv --column review --output labels.jsonl --resume --model MODEL

zcat reviews.txt.gz | triform run ner --input - --json --model MODEL | head

triform run TASK --help lists the options of a task.
"""

run = typer.Typer(
    help="Answer texts, a few or a file of millions: triform run TASK TEXT --model MODEL.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog=EPILOG,
)

Texts = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What to answer.", show_default=False)]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        "-i",
        metavar="FILE|-",
        help="Read rows from a .txt, .csv, .tsv or .jsonl file, .gz or not; - is standard input.",
        show_default=False,
    ),
]
Columned = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        "-c",
        metavar="[FIELD=]NAME",
        help="The column, or the key of a .jsonl file's objects, that holds the text; FIELD= for a task of several.",
        show_default=False,
    ),
]
InputFormat: Any = Literal[tuple(map(str, INPUT_FORMATS))]
Formatted = Annotated[
    InputFormat | None,
    typer.Option(
        "--input-format",
        help="How the input holds its rows, where its name does not say; jsonl also reads TEXT as JSON.",
        show_default=False,
    ),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write answers there: JSON in a .jsonl file, an array of vectors in a .npy file, else text.",
        show_default=False,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier run with this --output ended.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an --output that is there already.")]
OnError = Annotated[
    ErrorPolicy,
    typer.Option(
        "--on-error",
        envvar="TRIFORM_ON_ERROR",
        help="At a row that cannot be answered: stop, or put an error in the place of its answer and go on.",
    ),
]

INPUT_AND_OUTPUT = {
    "input": (Input, None),
    "input_format": (Formatted, None),
    "column": (Columned, None),
    "output": (OutputFile, None),
    "json": (Json, False),
    "resume": (Resume, False),
    "overwrite": (Overwrite, False),
    "on_error": (OnError, ErrorPolicy.STOP),
    "debug": (Debug, False),
}
"""Options of every task that change no answer: name → type and default."""


def command_of(task: type[Task[Any, Any]]) -> Callable[..., None]:
    """Make a function whose signature is the common arguments and the task's own options, for typer to read."""
    own = options_of(task.options_type)

    def command(**given: Any) -> None:
        _check_usage(given)
        options = {name: given[name] for name in own if given[name] != own[name][1]}
        _run(task, given, options)

    one = f"triform run {task.name} {quote(task.example)}"
    many = f"triform run {task.name} --input rows.csv --output answers.jsonl --resume"
    rest = " ".join([*task.example_options.split(), "--model MODEL"])
    command.__doc__ = f"{task.summary}\n\n{getdoc(task)}\n\nExample: {one} {rest}\n\nOf many rows: {many} {rest}"
    model = (ModelOption, Parameter.empty) if demo_for(task.name) is None else (OptionalModel, None)
    set_parameters(command, {"texts": (Texts, None), "model": model, **INPUT_AND_OUTPUT, **LOADING, **own})
    return command


def _check_usage(given: Mapping[str, Any]) -> None:
    if bool(given["texts"]) == (given["input"] is not None):
        raise typer.BadParameter("give either texts or --input FILE.")
    if given["input"] is None and given["column"]:
        raise typer.BadParameter("--column is for --input FILE.")
    if given["input"] is None and given["input_format"] not in (None, FileFormat.JSONL):
        raise typer.BadParameter("--input-format is for --input FILE; beside texts it may be jsonl, if they are JSON.")
    if given["resume"] and given["overwrite"]:
        raise typer.BadParameter("give either --resume or --overwrite.")
    if given["output"] is None and (given["resume"] or given["overwrite"]):
        raise typer.BadParameter("--resume and --overwrite are for --output FILE.")


def _run(task: type[Task[Any, Any]], given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Answer texts or the rows of a file, with these options of the task."""
    output: Path | None = given["output"]
    if_exists = IfExists.RESUME if given["resume"] else IfExists.OVERWRITE if given["overwrite"] else IfExists.FAIL
    if output is not None and not needs_run(output, if_exists):
        print(f"{output} is whole: there is nothing to go on with.", file=sys.stderr)
        return
    columns = InputColumns(task, parse_columns(task, given["column"] or []))
    loading = {name: given[name] for name in LOADING}
    with ExitStack() as stack:
        # Before the model is loaded, which takes longer.
        source = None if given["input"] is None else stack.enter_context(Source(given["input"]))
        format = None if given["input_format"] is None else FileFormat(given["input_format"])
        rows = read_texts(given["texts"], columns, format) if source is None else read_inputs(source, columns, format)
        loaded = task.load(_shipped_model(task) if given["model"] is None else given["model"], **loading, **options)
        bar = None
        if source is not None and is_shown(output):
            bar = stack.enter_context(ProgressBar(source))
            rows = bar.follow(rows)
        try:
            summary = answer_rows(
                loaded,
                rows,
                output or answer_stream(),
                json=given["json"],
                on_error=given["on_error"],
                if_exists=if_exists,
                settings=loading,
                progress=bar,
            )
        except KeyboardInterrupt as stop:
            print("\nstopped.", *getattr(stop, "__notes__", ()), file=sys.stderr)
            raise
    if summary is not None:
        _report_failed(summary)


def _shipped_model(task: type[Task[Any, Any]]) -> Path:
    """Find the model that ships with Triform for a task, and say so on standard error."""
    demo = demo_for(task.name)
    assert demo is not None, "where there is none, --model is required"
    print(
        f"no --model: answered by {demo.summary}, small and shipped with Triform "
        f"(triform demo {demo.name} shows how it works).",
        file=sys.stderr,
    )
    return demo.folder


def _report_failed(summary: Summary) -> None:
    """Warn of rows with an error in the place of their answer.

    Raises:
        InputError: no row could be answered.
    """
    if not summary.failed:
        return
    message = f"{summary.failed:,} of {summary.rows:,} rows could not be answered; their errors stand in their places."
    if summary.failed == summary.rows:
        raise InputError(message)
    warnings.warn(message, stacklevel=2)


for _name in (*TASKS, *ALIASES):
    run.command(_name, hidden=_name in ALIASES)(command_of(find_task(_name)))
