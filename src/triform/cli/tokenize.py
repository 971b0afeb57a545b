"""`triform tokenize MODEL TEXT`: the tokens of a text, as a model reads them."""

import json as json_library
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from triform.cli.parameters import Debug, Json, ModelArgument, Revision
from triform.cli.streams import printable
from triform.errors import InputError
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer
from triform.inputs.chat.template import Chat, ChatTemplate

COLUMNS = ("token", "id", "token type id", "mask", "characters")


def tokenize(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to tokenize.", show_default=False)],
    pair: Annotated[str | None, typer.Option(help="A second text, for models that read pairs.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="TEXT is what a user says, or a conversation in JSON; show its prompt first.")
    ] = False,
    json: Json = False,
    revision: Revision = None,
    debug: Debug = False,
) -> None:
    """Show the tokens of a text: ids, token type ids, attention mask, and the characters that each token stands for.

    Example: triform tokenize MODEL "A cat sat." --pair "It purred."
    """
    checkpoint = find_checkpoint(model, revision=revision)
    tokenizer = Tokenizer.from_checkpoint(checkpoint)
    if chat:
        if pair is not None:
            raise typer.BadParameter("give either --chat or --pair.")
        prompt = ChatTemplate.from_checkpoint(checkpoint, tokenizer).render(_read_chat(text))
        encoded = tokenizer.encode_rendered(prompt.text, spelled=prompt.spelled)
    else:
        encoded = tokenizer.encode([text if pair is None else (text, pair)])[0]
    rows = [
        (token, token_id, token_type, 1, characters if sequence is not None else None)
        for token, token_id, token_type, characters, sequence in zip(
            encoded.tokens,
            encoded.ids.tolist(),
            encoded.token_type_ids.tolist(),
            encoded.characters.tolist(),
            encoded.sequence_ids,
            strict=True,
        )
    ]
    if json:
        typer.echo(json_library.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], ensure_ascii=False))
        return
    if chat:
        typer.echo(printable(encoded.text))
    table = Table(*COLUMNS, caption=f"{len(rows)} tokens")
    for token, token_id, token_type, mask, characters in rows:
        place = "" if characters is None else f"{characters[0]}–{characters[1]}"
        table.add_row(_plain(token), str(token_id), str(token_type), str(mask), place)
    Console().print(table)


def _read_chat(text: str) -> Chat:
    """Read a conversation in JSON, or else a text as one message of a user."""
    if text.lstrip().startswith(("[", "{")):
        try:
            given = json_library.loads(text)
        except (json_library.JSONDecodeError, RecursionError) as error:
            raise InputError(f"TEXT begins with a bracket, but is not JSON: {error}.") from error
        return Chat.read(given)
    return Chat.read([{"role": "user", "content": text}])


def _plain(text: str) -> str:
    """Escape the brackets of rich's markup and control characters."""
    return printable(text).replace("[", r"\[")
