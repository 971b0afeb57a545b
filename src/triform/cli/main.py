"""Entry point: every failure becomes one message and an exit code."""

import sys
import warnings
from typing import TextIO

import typer

from triform import __version__
from triform.cli import debug
from triform.cli.convert import convert
from triform.cli.describe import describe
from triform.cli.run import run
from triform.cli.tokenize import tokenize
from triform.errors import TriformError

app = typer.Typer(
    name="triform",
    help="One runtime for the three forms of transformer, from human input to human answer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(run, name="run")
app.command()(describe)
app.command()(tokenize)
app.command()(convert)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"triform {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """One runtime for the three forms of transformer, from human input to human answer."""


def main() -> None:
    """Run a command.

    Exit codes: those of `triform.errors`, 1 for the unexpected, and, by typer, 2 for usage and 130 for Ctrl-C.
    """
    warnings.showwarning = _show_warning
    try:
        app()
    except TriformError as error:
        _fail(str(error), error.exit_code, error)
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error}\nRun it again with --debug for the traceback.", 1, error)


def _fail(message: str, code: int, error: Exception) -> None:
    if debug.enabled:
        raise error
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"warning: {message}", file=sys.stderr)
