"""`triform evaluate TASK`: scores of a model's answers."""

import json as json_library
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from triform.cli.parameters import Adapter, Debug, Dtype, Engine, Json, ModelOption, Revision
from triform.data import FileFormat, Files
from triform.tasks import find_task
from triform.training.evaluation import evaluate as scores_of

Paths = Annotated[
    list[str],
    typer.Option(
        "--data",
        metavar="[FIELD=]FILE",
        help="Rows with known answers. FIELD=FILE twice or more: files side by side, each line is a value.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", "-c", metavar="FIELD=NAME", help="The name of a field in the file.", show_default=False),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="WRITTEN=NAME", help="The name of a label in the file.", show_default=False),
]
Format = Annotated[
    FileFormat | None, typer.Option(help="Format of the files, where their names do not say it.", show_default=False)
]
Pattern = Annotated[
    str | None, typer.Option(metavar="REGEX", help="Named groups are the values of each line.", show_default=False)
]
Encoding = Annotated[str, typer.Option(help="Encoding of the files, as Python names it.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OPTION=VALUE", help="An option of the task: num_beams=4.", show_default=False),
]


def evaluate(
    task: Annotated[str, typer.Argument(metavar="TASK", help="As for triform run.", show_default=False)],
    model: ModelOption,
    data: Paths,
    format: Format = None,
    pattern: Pattern = None,
    column: Columns = None,
    label: Labels = None,
    encoding: Encoding = "utf-8",
    set: Settings = None,
    engine: Engine = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    adapter: Adapter = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a model's answers to rows with known answers, by the field's metrics. Needs triform[train].

    Example: triform evaluate text-classification --model MODEL --data test.csv --column label=stars
    """
    files = Files(
        paths=_paths(data),
        format=format,
        pattern=pattern,
        columns=_pairs("--column", column),
        labels=_pairs("--label", label),
        encoding=encoding,
    )
    options = {name: _value(value) for name, value in _pairs("--set", set).items()}
    loaded = find_task(task).load(model, engine=engine, dtype=dtype, revision=revision, adapter=adapter, **options)
    with Console(stderr=True).status("Answering"):
        scores = scores_of(loaded, files)
    if json:
        typer.echo(json_library.dumps(scores))
        return
    table = Table(show_header=False, box=None)
    for name, score in scores.items():
        table.add_row(name, f"{score:.4f}")
    Console().print(table)


def _paths(data: Sequence[str]) -> Any:
    if all("=" in one for one in data):
        return {field: Path(path) for field, path in _pairs("--data", data).items()}
    return [Path(one) for one in data]


def _pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    pairs = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter(f"{option} {one}: expected NAME=VALUE.")
        pairs[name] = value
    return pairs


def _value(text: str) -> Any:
    """Parse a value as TOML, or else as a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
