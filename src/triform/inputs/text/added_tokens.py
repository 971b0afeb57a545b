"""Added tokens of tokenizer_config.json and the older files: beside the vocabulary, and never split."""

import re
from collections.abc import Iterator
from typing import Any

import tokenizers

from triform.errors import TokenizerError
from triform.hub import Checkpoint

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


def read_added_tokens(
    checkpoint: Checkpoint, settings: dict[str, Any]
) -> list[tuple[int | None, tokenizers.AddedToken]]:
    """Read the added tokens: first by ascending id, then the tokens whose id the vocabulary gives.

    Arguments:
        checkpoint: may have an added_tokens.json.
        settings: of tokenizer_config.json and special_tokens_map.json; a role's token is special.

    Raises:
        TokenizerError: an entry is neither a string nor a token's description.
    """
    ids: dict[str, int | None] = {}
    flags: dict[str, dict[str, bool]] = {}
    for key, value in _entries(checkpoint, settings.get("added_tokens_decoder") or {}, "added_tokens_decoder"):
        content = _content(checkpoint, value)
        ids[content] = _as_id(checkpoint, key)
        flags[content] = _flags(value)
    if checkpoint.has("added_tokens.json"):
        for content, number in checkpoint.read_object("added_tokens.json").items():
            ids.setdefault(content, _as_id(checkpoint, number))
    for value in _special(settings):
        content = _content(checkpoint, value)
        ids.setdefault(content, None)
        flags[content] = {**_flags(value), **flags.get(content, {}), "special": True}
    ordered = sorted(ids.items(), key=lambda item: (item[1] is None, item[1] or 0))
    return [(number, tokenizers.AddedToken(content, **flags.get(content, {}))) for content, number in ordered]


def add_to(tokenizer: tokenizers.Tokenizer, checkpoint: Checkpoint, settings: dict[str, Any]) -> None:
    """Add the tokens to a tokenizer of the library.

    A token without an id is added last, or left out if it has a role and the vocabulary lacks it.

    Raises:
        TokenizerError: a token's id is not the next free one.
    """
    tokens = read_added_tokens(checkpoint, settings)
    listed = listed_tokens(settings)
    for number, token in tokens:
        if number is None and tokenizer.token_to_id(token.content) is None and token.content not in listed:
            continue
        tokenizer.add_tokens([token])
        got = tokenizer.token_to_id(token.content)
        if number not in (None, got):
            raise TokenizerError(
                f"{checkpoint.folder}: the added token {token.content!r} should have id {number}, but the vocabulary "
                f"and the tokens before it leave it {got}. Fetch the tokenizer's files again."
            )


def token_of(settings: dict[str, Any], role: str) -> str | None:
    """Read the token of a role from the settings; None where they name none."""
    token = settings.get(role)
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def with_space_before_mask(settings: dict[str, Any]) -> dict[str, Any]:
    """Let the mask token absorb the space before it, unless the settings describe the token."""
    mask = settings.get("mask_token")
    return {**settings, "mask_token": {"content": mask, "lstrip": True}} if isinstance(mask, str) else settings


def require(vocabulary: tokenizers.Tokenizer, settings: dict[str, Any], role: str, file: str) -> tuple[str, int]:
    """Find the token of a role that the template needs, and its id.

    Raises:
        TokenizerError: the vocabulary does not have it.
    """
    content = token_of(settings, role)
    found = None if content is None else vocabulary.token_to_id(content)
    if content is None or found is None:
        raise TokenizerError(
            f"{file} has no {content!r}, the {role} that every text needs. Fetch the file again, or name the token "
            f'as "{role}" in tokenizer_config.json.'
        )
    return content, found


def switch(settings: dict[str, Any], name: str, default: bool) -> bool:
    """Read a setting that is true or false; null means the default, as absence does.

    Raises:
        TokenizerError: it is something else.
    """
    value = settings.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise TokenizerError(f"tokenizer_config.json: {name} must be true or false, got {value!r}. Correct the file.")
    return value


def listed_tokens(settings: dict[str, Any]) -> list[str]:
    """List the special tokens without a role."""
    return [token["content"] if isinstance(token, dict) else token for token in _listed(settings)]


def _listed(settings: dict[str, Any]) -> Iterator[Any]:
    for name in ("additional_special_tokens", "extra_special_tokens"):
        listed = settings.get(name) or []
        if not isinstance(listed, list | dict):
            raise TokenizerError(f"tokenizer_config.json: {name} must list tokens, got {listed!r}. Correct the file.")
        yield from listed.values() if isinstance(listed, dict) else listed


def _special(settings: dict[str, Any]) -> Iterator[Any]:
    yield from (settings[role] for role in ROLES if settings.get(role) is not None)
    yield from _listed(settings)


def _entries(checkpoint: Checkpoint, entries: Any, name: str) -> list[tuple[str, Any]]:
    if not isinstance(entries, dict):
        raise TokenizerError(
            f"{checkpoint.folder / 'tokenizer_config.json'}: {name} must be an object, got {type(entries).__name__}. "
            "Fetch the file again."
        )
    return list(entries.items())


def _content(checkpoint: Checkpoint, value: Any) -> str:
    content = value.get("content") if isinstance(value, dict) else value
    if not isinstance(content, str) or not content:
        raise TokenizerError(
            f"{checkpoint.folder / 'tokenizer_config.json'}: expected a token's text or its description with "
            f'"content", got {value!r}. Fetch the file again.'
        )
    return content


def _flags(value: Any) -> dict[str, bool]:
    names = (*FLAGS, "special")
    return {name: bool(value[name]) for name in names if name in value} if isinstance(value, dict) else {}


def is_id(value: Any) -> bool:
    """Check whether a value is a whole number that can be an id."""
    return type(value) is int and 0 <= value < 2**31


def _as_id(checkpoint: Checkpoint, value: Any) -> int:
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value) else value
    if not is_id(number):
        raise TokenizerError(
            f"{checkpoint.folder}: an added token's id must be a whole number, got {value!r:.100}. Correct the file."
        )
    return int(number)
