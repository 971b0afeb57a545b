"""Entry point: every failure becomes one message and an exit code."""

import sys
import warnings
from contextlib import suppress
from typing import TextIO

import typer

from triform.cli import debug
from triform.cli.cache import cache
from triform.cli.chat import chat
from triform.cli.convert import convert
from triform.cli.demo import demo
from triform.cli.describe import describe
from triform.cli.evaluate import evaluate
from triform.cli.quantize import quantize
from triform.cli.run import run
from triform.cli.serve import serve
from triform.cli.streams import discard_output, prepare_streams, printable
from triform.cli.tokenize import tokenize
from triform.cli.train import train
from triform.errors import OutputError, TriformError
from triform.version import __version__

EPILOG = "\n\n".join(
    (
        "Examples:",
        'triform run sentiment-analysis "What a fine day." --model MODEL',
        "triform run embed --input reviews.csv --column review --output vectors.npy --model MODEL",
        "Exit codes: 0 done, 1 unexpected, 2 usage, 3 input, 4 model, 5 engine, 6 NaN, 7 output, 130 Ctrl-C.",
        "Environment: TRIFORM_MODEL, TRIFORM_ENGINE and others stand for options, as the help of each command says. "
        "NO_COLOR is honoured, and so are HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT.",
        "Completion: triform --install-completion teaches the shell commands, tasks, options, engines and models.",
    )
)

app = typer.Typer(
    name="triform",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(run, name="run")
app.add_typer(cache, name="cache")
app.command()(demo)
app.command()(chat)
app.command()(describe)
app.command()(tokenize)
app.command()(convert)
app.command()(quantize)
app.command()(train)
app.command()(evaluate)
app.command()(serve)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"triform {__version__}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def common(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """One runtime for the three forms of transformer, from human input to human answer."""


def main() -> None:
    """Run a command.

    Exit codes: as in `triform.errors`; 1 for an unexpected error; 2 for usage and 130 for Ctrl-C, by typer.
    """
    warnings.showwarning = _show_warning
    try:
        prepare_streams()
        try:
            app()
        finally:
            sys.stdout.flush()
    except TriformError as error:
        _fail(str(error), error.exit_code, error)
    except OSError as error:
        discard_output()
        place = error.filename or "Standard output"
        _fail(f"{place} cannot be read or written: {error.strerror or error}.", OutputError.exit_code, error)
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error}\nRun it again with --debug for the traceback.", 1, error)


def _fail(message: str, code: int, error: Exception) -> None:
    if debug.enabled:
        raise error
    notes = getattr(error, "__notes__", ())
    with suppress(OSError):  # standard error may be what cannot be written
        print(*(printable(line) for line in (f"error: {message}", *notes)), sep="\n", file=sys.stderr, flush=True)
    sys.exit(code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(printable(f"warning: {message}"), file=sys.stderr)
