"""`triform tokenize MODEL TEXT`: what a model is given to read."""

import json as json_library
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from triform.cli.parameters import Debug, Json, ModelArgument, Revision
from triform.hub import find
from triform.inputs import Tokenizer

COLUMNS = ("token", "id", "segment id", "mask", "characters")


def tokenize(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(help="What to tokenize.", show_default=False)],
    pair: Annotated[str | None, typer.Option(help="A second text, for models that read pairs.")] = None,
    json: Json = False,
    revision: Revision = None,
    debug: Debug = False,
) -> None:
    """Show the tokens of a text: ids, segment ids, attention mask, and which characters each stands for.

    Example: triform tokenize MODEL "A cat sat." --pair "It purred."
    """
    tokenizer = Tokenizer.from_checkpoint(find(model, revision=revision))
    encoded = tokenizer.encode([text if pair is None else (text, pair)])[0]
    rows = [
        (token, token_id, segment, 1, characters if source is not None else None)
        for token, token_id, segment, characters, source in zip(
            encoded.tokens,
            encoded.ids.tolist(),
            encoded.segment_ids.tolist(),
            encoded.characters.tolist(),
            encoded.sources,
            strict=True,
        )
    ]
    if json:
        typer.echo(json_library.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], ensure_ascii=False))
        return
    table = Table(*COLUMNS, caption=f"{len(rows)} tokens")
    for token, token_id, segment, mask, characters in rows:
        place = "" if characters is None else f"{characters[0]}–{characters[1]}"
        table.add_row(_plain(token), str(token_id), str(segment), str(mask), place)
    Console().print(table)


def _plain(text: str) -> str:
    """Text whose brackets are not rich's markup."""
    return text.replace("[", r"\[")
