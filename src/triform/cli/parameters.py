"""Arguments that several commands share."""

from typing import Annotated

import typer

from triform.cli import debug
from triform.engines import ENGINES, Format

Revision = Annotated[
    str | None, typer.Option(envvar="TRIFORM_REVISION", help="Branch, tag or commit on the Hub.", show_default=False)
]
Adapter = Annotated[
    str | None,
    typer.Option(
        envvar="TRIFORM_ADAPTER", help="A LoRA adapter to put on the model: a folder or a Hub id.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[
    bool, typer.Option("--debug", callback=debug.enable, envvar="TRIFORM_DEBUG", help="Show the traceback of an error.")
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", envvar="TRIFORM_MODEL", help="A folder, or a Hub id such as org/name.")
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or a Hub id such as org/name.")]
Engine = Annotated[str, typer.Option(envvar="TRIFORM_ENGINE", help=f"auto or {', '.join(ENGINES)}.")]
Dtype = Annotated[
    str, typer.Option(envvar="TRIFORM_DTYPE", help=f"How to hold the weights: auto, {', '.join(Format)}.")
]
