"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from triform.cli import debug
from triform.engines import ENGINES, FORMATS


def complete_engine(incomplete: str) -> list[str]:
    """List the engines that complete a word, for the shell."""
    return [name for name in ("auto", *ENGINES) if name.startswith(incomplete)]


def complete_dtype(incomplete: str) -> list[str]:
    """List the formats of weights that complete a word, for the shell."""
    return [name for name in ("auto", *FORMATS) if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """List the folders that complete a word: the folder of a model as it is, any other with a slash."""
    typed = Path(incomplete).expanduser()
    parent = typed if incomplete.endswith("/") or not incomplete else typed.parent
    try:
        folders = sorted(path for path in parent.iterdir() if path.is_dir())
    except OSError:
        return []
    start = incomplete[: incomplete.rfind("/") + 1]
    return [
        f"{start}{folder.name}" + ("" if (folder / "config.json").is_file() else "/")
        for folder in folders
        if folder.name.startswith(incomplete[len(start) :])
    ]


Revision = Annotated[
    str | None, typer.Option(envvar="TRIFORM_REVISION", help="Branch, tag or commit on the Hub.", show_default=False)
]
Adapter = Annotated[
    str | None,
    typer.Option(
        envvar="TRIFORM_ADAPTER", help="A LoRA adapter to put on the model: a folder or a Hub id.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", envvar="TRIFORM_JSON", help="Print JSON.")]
Debug = Annotated[
    bool, typer.Option("--debug", callback=debug.enable, envvar="TRIFORM_DEBUG", help="Show the traceback of an error.")
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="TRIFORM_MODEL",
        help="A folder, or a Hub id such as org/name.",
        autocompletion=complete_model,
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="TRIFORM_MODEL",
        help="A folder, or a Hub id such as org/name; without it the small model that ships with Triform.",
        autocompletion=complete_model,
        show_default=False,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A folder, or a Hub id such as org/name.", autocompletion=complete_model),
]
Engine = Annotated[
    str,
    typer.Option(envvar="TRIFORM_ENGINE", help=f"auto or {', '.join(ENGINES)}.", autocompletion=complete_engine),
]
Dtype = Annotated[
    str,
    typer.Option(
        envvar="TRIFORM_DTYPE",
        help=f"How to hold the weights: auto, {', '.join(FORMATS)}.",
        autocompletion=complete_dtype,
    ),
]
