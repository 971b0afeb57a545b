"""`triform run TASK`: one command for each task, its options read off the task itself."""

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from inspect import Parameter, getdoc
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from triform import __version__
from triform.cli.answering import Answering
from triform.cli.columns import Columns
from triform.cli.forms import Form, form_of
from triform.cli.options import LOADING, options_of, set_parameters
from triform.cli.output import FileOutput, Output, StreamOutput, check_untouched, is_whole
from triform.cli.parameters import Debug, Json, ModelOption, OptionalModel
from triform.cli.progress import progress
from triform.cli.rows import Row, parse, read_rows
from triform.data.files import InputFormat, Source, format_of
from triform.demo import demo_for
from triform.errors import InputError
from triform.tasks import ALIASES, TASKS, Task, find_task
from triform.tasks.runner import OnError

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
OnErrorOption = Annotated[
    OnError,
    typer.Option(
        "--on-error",
        envvar="TRIFORM_ON_ERROR",
        help="At a row that cannot be answered: stop, or put an error in the place of its answer and go on.",
    ),
]

FROM_WHERE_TO_WHERE = {
    "input": (Input, None),
    "input_format": (Formatted, None),
    "column": (Columned, None),
    "output": (OutputFile, None),
    "json": (Json, False),
    "resume": (Resume, False),
    "overwrite": (Overwrite, False),
    "on_error": (OnErrorOption, OnError.STOP),
    "debug": (Debug, False),
}
"""Options that change no answer."""


def command_of(task: type[Task[Any, Any]]) -> Callable[..., None]:
    """A function whose signature is the common arguments and the task's own options, for typer to read."""
    own = options_of(task.options_type)

    def command(**given: Any) -> None:
        _check_usage(given)
        if given["resume"] and is_whole(given["output"]):
            print(f"{given['output']} is whole: there is nothing to go on with.", file=sys.stderr)
            return
        if given["output"] is not None and not (given["resume"] or given["overwrite"]):
            check_untouched(given["output"])
        options = {name: given[name] for name in own if given[name] != own[name][1]}
        loading = {name: given[name] for name in LOADING}
        columns = Columns(task, given["column"] or [])
        with ExitStack() as stack:
            source = None if given["input"] is None else Source(given["input"], stack)
            if source is None:
                rows = texts_of(given["texts"], columns, given["input_format"])
            else:
                unnamed = InputFormat.JSONL if task.fields else InputFormat.TXT
                input_format = given["input_format"] or format_of(given["input"], InputFormat) or unnamed
                rows = read_rows(source, input_format, columns)
            model = shipped_model(task) if given["model"] is None else given["model"]
            loaded = task.load(model, **loading, **options)
            loaded.check_options(loaded.options)
            form = form_of(loaded, given["output"], json=given["json"])
            output = open_output(given, loaded, form, loading | options)
            if source is not None:
                seen = isinstance(output, StreamOutput)
                rows = stack.enter_context(progress(rows, source, output, answers_are_seen=seen))
            answer(Answering(task=loaded, form=form, output=output, on_error=given["on_error"]), rows)

    one = f"triform run {task.name} {quote(task.example)}"
    many = f"triform run {task.name} --input rows.csv --output answers.jsonl --resume"
    rest = " ".join([*task.example_options.split(), "--model MODEL"])
    command.__doc__ = f"{task.summary}\n\n{getdoc(task)}\n\nExample: {one} {rest}\n\nOf many rows: {many} {rest}"
    model = (ModelOption, Parameter.empty) if demo_for(task.name) is None else (OptionalModel, None)
    set_parameters(command, {"texts": (Texts, None), "model": model, **FROM_WHERE_TO_WHERE, **LOADING, **own})
    return command


def shipped_model(task: type[Task[Any, Any]]) -> Path:
    """The model that ships with Triform for a task, and word of it on standard error."""
    demo = demo_for(task.name)
    assert demo is not None, "where there is none, --model is required"
    print(
        f"no --model: answered by {demo.summary}, small and shipped with Triform "
        f"(triform demo {demo.name} shows how it works).",
        file=sys.stderr,
    )
    return demo.folder


def _check_usage(given: Mapping[str, Any]) -> None:
    if bool(given["texts"]) == (given["input"] is not None):
        raise typer.BadParameter("give either texts or --input FILE.")
    if given["input"] is None and given["column"]:
        raise typer.BadParameter("--column is for --input FILE.")
    if given["input"] is None and given["input_format"] not in (None, InputFormat.JSONL):
        raise typer.BadParameter("--input-format is for --input FILE; beside texts it may be jsonl, if they are JSON.")
    if given["resume"] and given["overwrite"]:
        raise typer.BadParameter("give either --resume or --overwrite.")
    if given["output"] is None and (given["resume"] or given["overwrite"]):
        raise typer.BadParameter("--resume and --overwrite are for --output FILE.")


def texts_of(texts: list[str], columns: Columns, input_format: InputFormat | None) -> Iterator[Row]:
    """The arguments as rows; JSON for tasks that read nothing else, or where the caller says so."""
    for number, text in enumerate(texts, 1):
        where = f"text {number}"
        if columns.hint or input_format is InputFormat.JSONL:
            yield parse(where, text, columns)
            continue
        if looks_like_json(text):
            print(f"warning: {where} is read letter by letter. Is it JSON? Add --input-format jsonl.", file=sys.stderr)
        yield Row(where, text)


def looks_like_json(text: str) -> bool:
    """Whether a text is an object or a list of JSON, such as a conversation."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def open_output(given: Mapping[str, Any], task: Task[Any, Any], form: Form, options: Mapping[str, Any]) -> Output:
    """Where the answers go.

    Raises:
        InputError: as `FileOutput`, or what is no file should be resumed.
    """
    path = given["output"]
    if path is None:
        return StreamOutput(sys.stdout.buffer)
    if path.exists() and not path.is_file():
        if given["resume"]:
            raise InputError(f"--resume: --output {path} is no file, and what was written to it is gone.")
        try:
            return StreamOutput(open(path, "wb"))
        except OSError as error:
            raise InputError(f"--output {path} cannot be opened: {error.strerror}.") from error
    return FileOutput(path, form, began(task, form, options), resume=given["resume"])


def began(task: Task[Any, Any], form: Form, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that answers depend on besides the rows."""
    folder = task.model.checkpoint.folder
    files = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    stamps = repr([(str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns) for path, stat in files])
    return {
        "triform": __version__,
        "task": task.name,
        "model": str(folder.resolve()),
        "files of the model": hashlib.blake2b(stamps.encode(), digest_size=8).hexdigest(),
        "form": form.name,
        **options,
    }


def answer(answering: Answering, rows: Iterator[Row]) -> None:
    """Answer the rows, and say how to go on if a person ends that early."""
    output = answering.output
    try:
        answering.run(rows)
        output.finish()
    except KeyboardInterrupt:
        print(f"\nstopped. {output.how_to_go_on()}".rstrip(), file=sys.stderr)
        raise
    finally:
        output.close()
    if output.failed:
        said = f"{output.failed:,} of {output.rows:,} rows could not be answered; what was wrong stands in their place."
        if output.failed == output.rows:
            raise InputError(said)
        warnings.warn(said, stacklevel=2)


for _name in (*TASKS, *ALIASES):
    run.command(_name, hidden=_name in ALIASES)(command_of(find_task(_name)))
