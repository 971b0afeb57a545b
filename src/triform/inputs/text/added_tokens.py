"""Added tokens: beside the vocabulary, and never split."""

from collections.abc import Mapping

import tokenizers
from tokenizers import AddedToken

from triform.errors import TokenizerError
from triform.hub import Checkpoint
from triform.inputs.text.tokenizer_settings import ADDED, CONFIG, ROLES, TokenizerSettings, read_added_tokens_json

MAX_ADDED_TOKENS = 100_000


def read_added_tokens(
    checkpoint: Checkpoint, settings: TokenizerSettings, present: Mapping[int, AddedToken]
) -> list[tuple[int | None, AddedToken]]:
    """Read the added tokens: first by ascending id, then the tokens whose id the vocabulary gives.

    Arguments:
        checkpoint: may have an added_tokens.json.
        settings: name the special tokens; a role's token is special.
        present: the added tokens of tokenizer.json.

    Raises:
        TokenizerError: two files have different tokens with one id, or there are too many tokens.
    """
    roles = {role: token for role in ROLES if (token := settings.token(role)) is not None}
    listed = settings.listed()
    in_roles = {token.content for token in roles.values()}
    # transformers 5 does not look for the tokens of added_tokens.json in the older list of special_tokens_map.json.
    special = in_roles | ({token.content for token in listed} if settings.lists_special_tokens() else set())
    numbered = settings.added() if settings.lists_added_tokens else read_added_tokens_json(checkpoint, special)
    for number, token in present.items():
        listed_one = numbered.get(number, token)
        if listed_one.content != token.content:
            raise TokenizerError(
                f"{checkpoint.folder}: the added token with the id {number} is {token.content!r} in tokenizer.json, "
                f"and {listed_one.content!r} in {CONFIG if settings.lists_added_tokens else ADDED}. Fetch the "
                "tokenizer's files again."
            )
    if not settings.lists_added_tokens:
        numbered.update(present)
    if len(numbered) + len(listed) > MAX_ADDED_TOKENS:
        raise TokenizerError(
            f"{checkpoint.folder}: {len(numbered) + len(listed):,} added tokens are more than the "
            f"{MAX_ADDED_TOKENS:,} allowed. Put them into the vocabulary."
        )
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


def add_numbered(tokenizer: tokenizers.Tokenizer, tokens: list[tuple[int | None, AddedToken]], folder: str) -> None:
    """Add the tokens with an id to a tokenizer of the library.

    Raises:
        TokenizerError: a token's id is not the next free one.
    """
    present = {token.content: repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
    numbered = [(number, token) for number, token in tokens if number is not None]
    tokenizer.add_tokens([token for _, token in numbered if present.get(token.content) != repr(token)])
    for number, token in numbered:
        got = tokenizer.token_to_id(token.content)
        if number != got:
            raise TokenizerError(
                f"{folder}: the added token {token.content!r} should have id {number}, but the vocabulary "
                f"and the tokens before it leave it {got}. Fetch the tokenizer's files again."
            )


def add_others(tokenizer: tokenizers.Tokenizer, tokens: list[tuple[int | None, AddedToken]]) -> None:
    """Add the tokens without an id behind all others, unless they are there."""
    present = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_tokens([token for number, token in tokens if number is None and token.content not in present])


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
