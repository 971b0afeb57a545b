"""Added tokens: beside the vocabulary, and never split."""

import tokenizers
from tokenizers import AddedToken

from triform.errors import TokenizerError
from triform.hub import Checkpoint
from triform.inputs.text.tokenizer_settings import ROLES, TokenizerSettings, read_added_tokens_json


def read_added_tokens(checkpoint: Checkpoint, settings: TokenizerSettings) -> list[tuple[int | None, AddedToken]]:
    """Read the added tokens: first by ascending id, then the tokens whose id the vocabulary gives.

    A token is left out if only the tokenizer's class names it and no file gives its id.

    Arguments:
        checkpoint: may have an added_tokens.json.
        settings: name the special tokens; a role's token is special.
    """
    roles = {role: token for role in ROLES if (token := settings.token(role)) is not None}
    listed = settings.listed()
    special = {token.content for token in (*roles.values(), *listed)}
    numbered = settings.added() if settings.lists_added_tokens else read_added_tokens_json(checkpoint, special)
    in_roles = {token.content for token in roles.values()}
    for token in numbered.values():
        token.special = token.special or token.content in in_roles
    contents = {token.content for token in numbered.values()}
    unnumbered: dict[str, AddedToken] = {}
    for token in (*roles.values(), *listed):
        if token.content not in contents:
            unnumbered.setdefault(token.content, token)
    return [*sorted(numbered.items()), *((None, token) for token in unnumbered.values())]


def names_of_class(settings: TokenizerSettings) -> set[str]:
    """List the tokens of roles that only the tokenizer's class names."""
    others = {settings.content(role) for role in ROLES if role not in settings.own_roles}
    own = {settings.content(role) for role in settings.own_roles}
    listed = {token.content for token in settings.listed()}
    return {content for content in others - own - listed if content is not None}


def add_to(tokenizer: tokenizers.Tokenizer, checkpoint: Checkpoint, settings: TokenizerSettings) -> None:
    """Add the tokens to a tokenizer of the library.

    A token without an id is added last, or left out if only the tokenizer's class names it.

    Raises:
        TokenizerError: a token's id is not the next free one.
    """
    present = {token.content: repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
    optional = names_of_class(settings)
    tokens = read_added_tokens(checkpoint, settings)
    new = []
    for number, token in tokens:
        is_there = token.content in present if number is None else present.get(token.content) == repr(token)
        is_missing = token.content in optional and number is None and tokenizer.token_to_id(token.content) is None
        if not is_there and not is_missing:
            new.append(token)
    tokenizer.add_tokens(new)
    for number, token in tokens:
        got = tokenizer.token_to_id(token.content)
        if number not in (None, got):
            raise TokenizerError(
                f"{checkpoint.folder}: the added token {token.content!r} should have id {number}, but the vocabulary "
                f"and the tokens before it leave it {got}. Fetch the tokenizer's files again."
            )


def require(vocabulary: tokenizers.Tokenizer, settings: TokenizerSettings, role: str, file: str) -> tuple[str, int]:
    """Find the token of a role that the template needs, and its id.

    Raises:
        TokenizerError: the vocabulary does not have it.
    """
    content = settings.content(role)
    found = None if content is None else vocabulary.token_to_id(content)
    if content is None or found is None:
        raise TokenizerError(
            f"{file} has no {content!r}, the {role} that every text needs. Fetch the file again, or name the token "
            f'as "{role}" in tokenizer_config.json.'
        )
    return content, found
