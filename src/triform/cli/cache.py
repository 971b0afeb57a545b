"""`triform cache`: the files of packed weights, which make the next start of a model faster."""

import json as json_library
from datetime import datetime

import typer
from rich.console import Console
from rich.table import Table

from triform.cli.parameters import Debug, Json
from triform.cli.streams import printable
from triform.errors import WeightError
from triform.weights import PackedCache

cache = typer.Typer(
    help="The files of packed weights. TRIFORM_CACHE names their folder (off for none), TRIFORM_CACHE_LIMIT gigabytes.",
    no_args_is_help=True,
)


def _cache() -> PackedCache:
    found = PackedCache.from_environment()
    if found is None:
        typer.echo("The cache is off.")
        raise typer.Exit
    return found


@cache.command("list")
def list_(json: Json = False, debug: Debug = False) -> None:
    """Show the files, the last used first.

    Example: triform cache list
    """
    found = _cache()
    entries = list(found.entries())
    if json:
        for each in entries:
            row = {"path": str(each.path), "source": each.source, "packing": each.packing, "bytes": each.size}
            typer.echo(json_library.dumps(row, ensure_ascii=False))
        return
    table = Table("model", "packing", "size", "last used", "file")
    for each in entries:
        used = datetime.fromtimestamp(each.used).strftime("%Y-%m-%d %H:%M")
        table.add_row(
            printable(each.source), printable(each.packing), f"{each.size / 1e6:,.0f} MB", used, each.path.name
        )
    Console().print(table)
    total = sum(each.size for each in entries)
    typer.echo(f"{len(entries)} files in {found.folder}, {total / 1e9:.2f} GB of at most {found.limit / 1e9:g} GB.")


@cache.command()
def verify(debug: Debug = False) -> None:
    """Read all files, and compare them with what was written.

    Example: triform cache verify
    """
    files = _cache().verify()
    damaged = [str(path) for path, is_sound in files.items() if not is_sound]
    if damaged:
        paths = "\n  ".join(damaged)
        raise WeightError(
            f"{len(damaged)} of {len(files)} files are damaged. triform cache clear deletes all:\n  {paths}"
        )
    typer.echo(f"{len(files)} files are as they were written.")


@cache.command()
def clear(debug: Debug = False) -> None:
    """Delete all files. They are made again when a model is loaded.

    Example: triform cache clear
    """
    typer.echo(f"{len(_cache().clear())} files deleted.")
