"""`triform run TASK`: one command for each task, its options read off the task itself."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from inspect import Parameter, Signature
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, TextIO, get_type_hints

import typer

from triform.cli.answers import as_json, as_text
from triform.cli.parameters import Adapter, Debug, Dtype, Engine, Json, ModelOption, Revision
from triform.cli.progress import counted
from triform.errors import InputError
from triform.tasks import TASKS, Task

run = typer.Typer(help="Answer texts: triform run TASK TEXT --model MODEL.", no_args_is_help=True)

Texts = Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="What to answer.", show_default=False)]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        "-i",
        metavar="FILE|-",
        help="Read a text from each line, or a JSON value from each line of a .jsonl file; - is standard input.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write answers there.", show_default=False)
]

COMMON = {
    "model": (ModelOption, Parameter.empty),
    "input": (Input, None),
    "output": (Output, None),
    "json": (Json, False),
    "engine": (Engine, "auto"),
    "dtype": (Dtype, "auto"),
    "revision": (Revision, None),
    "adapter": (Adapter, None),
    "debug": (Debug, False),
}


def command_of(task: type[Task[Any, Any]]) -> Callable[..., None]:
    """A function whose signature is the common arguments and the task's own options, for typer to read."""
    hints = get_type_hints(task.options_type)
    own = {
        known.name: (_cli_type(hints[known.name], known.metadata["help"]), _cli_default(known.default))
        for known in fields(task.options_type)
    }

    def command(**given: Any) -> None:
        options = {name: given[name] for name in own if given[name] != own[name][1]}
        common = {name: given[name] for name in ("engine", "dtype", "revision", "adapter")}
        texts, source = given["texts"] or [], given["input"]
        if bool(texts) == (source is not None):
            raise typer.BadParameter("give either texts or --input FILE.")
        loaded = task.load(given["model"], **common, **options)
        with ExitStack() as stack:
            lines = iter(texts) if source is None else counted(read_lines(source, stack), task.name)
            is_json = bool(task.fields) or str(source).endswith(".jsonl")
            hint = f" {task.name} reads objects such as {task.example}" if task.fields else ""
            where = "text" if source is None else f"{source}, line"
            inputs = parse(lines, where, hint) if is_json else lines
            target = sys.stdout if given["output"] is None else open_file("--output", given["output"], "w", stack)
            write_answers(loaded(inputs), target, form=as_json if given["json"] else as_text)

    example = " ".join(["triform run", task.name, quote(task.example), *task.example_options.split(), "--model MODEL"])
    command.__doc__ = f"{task.summary}\n\n{(task.__doc__ or '').strip()}\n\nExample: {example}"
    parameters = [Parameter("texts", Parameter.KEYWORD_ONLY, annotation=Texts, default=None)]
    for name, (annotation, default) in {**COMMON, **own}.items():
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default))
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _cli_type(hint: Any, help: str) -> Any:
    text = str(hint)
    kind = list[str] | None if "Sequence[str]" in text else hint
    return Annotated[kind, typer.Option(help=help)]


def _cli_default(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def read_lines(source: str, stack: ExitStack) -> Iterator[str]:
    """The lines of a file or of standard input, one after another.

    Raises:
        InputError: there is no such file, it is empty, or it is not text.
    """
    lines = sys.stdin if source == "-" else open_file("--input", source, "r", stack)
    number = 0
    try:
        for line in lines:
            number += 1
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"--input {source} is not UTF-8, near line {number + 1}: {error}. Convert it first."
        ) from error
    if not number:
        raise InputError(f"--input {source} is empty: expected a text on each line.")


def open_file(option: str, path: str | Path, mode: str, stack: ExitStack) -> TextIO:
    """A text file that `stack` will close.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        return stack.enter_context(open(path, mode, encoding="utf-8"))  # type: ignore[return-value]
    except OSError as error:
        raise InputError(f"{option} {path} cannot be opened: {error.strerror}.") from error


def parse(lines: Iterator[str], where: str, hint: str) -> Iterator[Any]:
    """JSON values, one on each line.

    Raises:
        InputError: a line is not JSON.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where} {number}: not JSON: {error}.{hint}") from error


def write_answers(answers: Iterator[Any], target: TextIO, *, form: Callable[[Any], str]) -> None:
    """Write each answer as it comes."""
    for answer in answers:
        target.write(form(answer) + "\n")
        target.flush()


for _task in TASKS:
    for _name in (_task.name, *_task.aliases):
        run.command(_name, hidden=_name != _task.name)(command_of(_task))
