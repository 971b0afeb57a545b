"""`triform chat MODEL`: a conversation in a terminal, or through a pipe, a line for each turn."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from inspect import Parameter
from time import perf_counter
from typing import Annotated, Any

import typer

from triform.cli.conversation import Conversation
from triform.cli.options import LOADING, options_of, set_parameters
from triform.cli.parameters import Debug, ModelArgument
from triform.cli.streams import printable
from triform.errors import InputError
from triform.generation import FinishReason
from triform.tasks.generative.options import OPTIONS, SettingOptions
from triform.tasks.generative.text_generation import TextGeneration

COMMANDS = """\
/help        this list
/reset       forget what was said
/save FILE   write the conversation, as one line of JSON
/exit        leave, as Ctrl-D does
Ctrl-C stops an answer. A text that begins with / is written with //."""

# A model's words must not move the cursor or rename the window: control characters are shown as pictures of themselves.

# Beams cannot be streamed.
STREAMED = [name for name, setting in OPTIONS.items() if name != "num_beams" and setting.needs != "num_beams"]
System = Annotated[str | None, typer.Option(help="What the model is told first.", show_default=False)]


def chat(model: str, system: str | None, debug: bool, **options: Any) -> None:
    """Talk with a model that has a chat template. From a pipe, each line is a turn and each answer is printed plain.

    Example: triform chat MODEL --system "Answer briefly."
    """
    given = {name: value for name, value in options.items() if value is not None}
    task = TextGeneration.load(model, **given)
    conversation = Conversation(task, system)
    if sys.stdin.isatty() and sys.stdout.isatty():
        _talk(conversation, model)
    else:
        _answer_lines(conversation)


set_parameters(
    chat,
    {
        "model": (ModelArgument, Parameter.empty),
        "system": (System, None),
        **{name: own for name, own in options_of(SettingOptions).items() if name in STREAMED},
        **LOADING,
        "debug": (Debug, False),
    },
)


def _answer_lines(conversation: Conversation) -> None:
    """Answer each line of standard input; the first error ends the conversation."""
    for text in _lines():
        if text.strip() and not _obey(text, conversation):
            for piece in conversation.answer(_unescaped(text)):
                print(piece, end="", flush=True)
            print()
            if cause := _cut_off(conversation):
                print(f"warning: {cause}", file=sys.stderr)


def _lines() -> Iterator[str]:
    try:
        for line in sys.stdin:
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"Standard input is not UTF-8: {error}. Convert it first.") from error


def _talk(conversation: Conversation, model: str) -> None:
    """Answer a person on a terminal; an error ends the turn, not the conversation."""
    _note(f"{model}. /help lists the commands, /exit or Ctrl-D leaves.")
    for text in _questions():
        try:
            if not _obey(text, conversation):
                _show_answer(conversation, _unescaped(text))
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            _note("The conversation is as it was before. /reset begins a new one.")
        except KeyboardInterrupt:  # once more, when the answer has stopped already
            print()


def _questions() -> Iterator[str]:
    """Yield the texts that a person types."""
    with suppress(ImportError):
        import readline  # noqa: F401 (importing it gives `input` a history)
    while True:
        try:
            text = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            _note("/exit or Ctrl-D leaves.")
            continue
        if text.strip():
            yield text


def _show_answer(conversation: Conversation, text: str) -> None:
    begin = perf_counter()
    stopped = False
    with closing(conversation.answer(text)) as pieces:
        try:
            for piece in pieces:
                print(printable(piece), end="", flush=True)
        except KeyboardInterrupt:
            stopped = True
    seconds = perf_counter() - begin
    print()
    count = conversation.num_tokens
    _note(f"{count} tokens in {seconds:.1f} s, {count / seconds:.1f} tokens/s" + (", stopped" if stopped else ""))
    if cause := _cut_off(conversation):
        _note(cause)
    if stopped and not count:
        _note("Nothing was said, so the question is forgotten.")


def _obey(text: str, conversation: Conversation) -> bool:
    """Run a line if it is a command; returns whether it was one.

    Raises:
        InputError: the command is unknown, or it failed.
    """
    if not text.startswith("/") or text.startswith("//"):
        return False
    name, _, argument = text.strip().partition(" ")
    match name, argument.strip():
        case "/help", "":
            typer.secho(COMMANDS, dim=True)
        case "/reset", "":
            conversation.reset()
        case "/save", path if path:
            _save(conversation, path)
        case "/exit", "":
            raise typer.Exit
        case _:
            raise InputError(f"{text!r} is not a command. The commands are:\n{COMMANDS}")
    return True


def _save(conversation: Conversation, path: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(json.dumps(conversation.messages, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(f"/save {path}: {error.strerror}. Name a new file in a folder that exists.") from error


def _unescaped(text: str) -> str:
    return text[1:] if text.startswith("//") else text


def _cut_off(conversation: Conversation) -> str | None:
    """Explain why an answer is cut off; None if the model or the person ended it."""
    match conversation.finish_reason:
        case FinishReason.LENGTH:
            limit = "the most that --max-new-tokens or the model's own settings allow"
        case FinishReason.TIME:
            limit = "the most time that --max-time or the model's own settings allow"
        case FinishReason.CONTEXT:
            limit = "the end of the model's context; /reset begins a new conversation"
        case _:
            return None
    return f"The answer was cut off after {conversation.num_tokens} tokens, {limit}."


def _note(text: str) -> None:
    """Print a note, dim, on a terminal only."""
    if sys.stdout.isatty():
        typer.secho(text, dim=True)
