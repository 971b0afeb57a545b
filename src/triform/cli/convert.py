"""`triform convert MODEL`: weights in .bin files become safetensors."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from triform.cli.parameters import Debug, ModelArgument, Revision
from triform.hub import MODEL
from triform.model import read_blueprint
from triform.weights.convert import convert as convert_weights

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="Write there, not beside the .bin files.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace safetensors files that are there.")]


def convert(
    model: ModelArgument,
    output: Output = None,
    overwrite: Overwrite = False,
    revision: Revision = None,
    debug: Debug = False,
) -> None:
    """Write the weights of .bin files, which Triform does not read, as safetensors; then check that they fit the model.

    Runs no code that such a file may hold. Needs torch: pip install 'triform[torch]'. A model of the Hub is converted
    in the local cache, where other commands find it by its id.

    Example: triform convert MODEL
    """
    with Console(stderr=True).status("Reading") as status:  # which shows on a terminal only
        done = convert_weights(
            model,
            output,
            revision=revision,
            overwrite=overwrite,
            before_file=lambda file: status.update(f"Writing {file}"),
        )
    for name in done.left_out:
        typer.echo(f"Left out, because it is not a tensor: {name}", err=True)
    typer.echo(f"Converted: {done.folder}")
    if (done.folder / MODEL.config).is_file():
        read_blueprint(done.folder)
