"""`triform demo`: the models that ship with the package at work, with every step shown."""

import sys
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console

from triform.cli.parameters import Debug
from triform.cli.walk import show
from triform.demo import DEMOS
from triform.demo.walk import Walker
from triform.errors import InputError


def complete_demo(incomplete: str) -> list[str]:
    """List the demos that complete a word, for the shell."""
    return [name for name in DEMOS if name.startswith(incomplete)]


def demo(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar=f"[{'|'.join(DEMOS)}]",
            help="Which model; without it all, each with its example.",
            show_default=False,
            autocompletion=complete_demo,
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]…", help="What to show it; without any, what is typed.", show_default=False),
    ] = None,
    debug: Debug = False,
) -> None:
    """See the small models that ship with Triform at work: text → tokens → ids → tensors → tensors → text.

    From a pipe, each line is a text; where there is none, the example is shown.

    Example: triform demo translation "The cat is sleeping under the table."
    """
    if name is not None and name not in DEMOS:
        raise typer.BadParameter(f"{name!r} is none of the demos. Choose one of {', '.join(DEMOS)}.")
    typing = sys.stdin.isatty() and not texts
    given = texts or ([] if typing or name is None else list(filter(str.strip, sys.stdin)))
    for one in [name] if name else DEMOS:
        walker = Walker(DEMOS[one])
        for text in given or [walker.demo.example]:
            _show(walker, text.rstrip("\n"))
    if typing:
        _answer_what_is_typed(walker)


def _answer_what_is_typed(walker: Walker) -> None:
    """Answer typed texts until the person leaves; an error ends only its answer."""
    typer.secho(f"Type a text, or {', '.join(DEMOS)} for another model. Ctrl-D leaves.", dim=True)
    with suppress(ImportError):
        import readline  # noqa: F401 (importing it gives `input` a history)
    while True:
        try:
            text = input(f"{walker.demo.name}> ").strip()
            if text in DEMOS:
                walker = Walker(DEMOS[text])
            elif text:
                _show(walker, text)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
        except (EOFError, KeyboardInterrupt):
            print()
            return


def _show(walker: Walker, text: str) -> None:
    show(walker, walker.walk(text), Console())
