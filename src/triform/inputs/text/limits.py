"""Limits on tokenizer.json: what its library would accept, and then need too much memory or time for, or panic at.

The library does not check what a file makes it do once the file is parsed. A panic prints a backtrace.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tokenizers

from triform.errors import TokenizerError
from triform.inputs.text.added_tokens import MAX_ADDED_TOKENS

MAX_TOKEN_BYTES = 10_000
"""The library keeps a vocabulary of unigrams as a tree as deep as its longest token; a deep one ends the process."""
MAX_GROWTH = 1024
"""The most characters that a normalizer, pre-tokenizer or decoder may make of one character."""
MAX_PARTS = 100
MAX_WORD = 200
"""The most characters of a word that WordPiece may split; the time grows with a higher power of the length."""
MAX_AROUND = 1000
"""The most special tokens around a text."""
MAX_REPLACEMENT = 64
"""The most bytes by which a table of characters may replace a character."""


@contextmanager
def _refusals_of(file: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise TokenizerError(f"{file}: {error}. Correct the file, or use another checkpoint.") from error


def check_content(content: bytes, file: str) -> None:
    """Check the file before the library reads it.

    Raises:
        TokenizerError: a token is too long, too many tokens are added, or a table of characters is damaged.
    """
    with _refusals_of(file):
        _check_content(content)


def check_parts(tokenizer: tokenizers.Tokenizer, file: str) -> None:
    """Check the parts of a tokenizer.

    Raises:
        TokenizerError: a part makes random choices, or may need too much memory or time.
    """
    with _refusals_of(file):
        _check_model(tokenizer.model)
        _check_pipeline(tokenizer)


def _check_content(content: bytes) -> None:
    _refuse_long_tokens(content)
    added = content.count(b'"single_word"')
    if added > MAX_ADDED_TOKENS:
        raise ValueError(f"{added:,} added tokens are more than the {MAX_ADDED_TOKENS:,} allowed")
    if b'"precompiled_charsmap"' in content:
        from triform.inputs.text.charsmap import check_charsmaps

        check_charsmaps(content)


def _check_model(model: Any) -> None:
    if getattr(model, "dropout", None):
        raise ValueError(f"dropout is {model.dropout}, which gives one text other tokens at each call; expected null")
    longest = getattr(model, "max_input_chars_per_word", 0)
    if longest > MAX_WORD:
        raise ValueError(f"max_input_chars_per_word is {longest:,}; expected at most {MAX_WORD}")


def _check_pipeline(tokenizer: tokenizers.Tokenizer) -> None:
    before = [*_parts(tokenizer.normalizer), *_parts(tokenizer.pre_tokenizer)]
    after, around = [*_parts(tokenizer.decoder)], [*_parts(tokenizer.post_processor)]
    for parts in (before, after, around):
        if len(parts) > MAX_PARTS:
            raise ValueError(f"{len(parts):,} parts one behind the other are more than the {MAX_PARTS} allowed")
    for parts in (before, after):
        growth = 1
        for part in parts:
            growth *= _growth(part)
        if growth > MAX_GROWTH:
            raise ValueError(f"its replacements may make {growth:,} characters of one; at most {MAX_GROWTH:,} may be")
    if sum(map(_around, around)) > MAX_AROUND:
        raise ValueError(f"its template puts more than {MAX_AROUND:,} tokens or texts around each text")


def _parts(component: Any) -> Iterator[dict[str, Any]]:
    """Yield the description of a component, or of the components of a sequence."""
    if component is None:
        return
    pending = [json.loads(component.__getstate__())]
    while pending:
        part = pending.pop(0)
        inner = next(
            (part[key] for key in ("normalizers", "pretokenizers", "decoders", "processors") if key in part), None
        )
        if inner is None:
            yield part
        else:
            pending = [*inner, *pending]


def _growth(part: dict[str, Any]) -> int:
    """Bound the number of characters that a part makes of one character."""
    match part:
        case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)} if pattern:
            return max(1, -(-len(content) // len(pattern)))
        case {"type": "Replace", "content": str(content)}:
            return 1 + len(content)  # the pattern may match between two characters
        case {"type": "Prepend", "prepend": str(content)}:
            return 1 + len(content)
        case {"type": "ByteLevel"}:
            return 2
        case {"type": "Precompiled"}:
            return MAX_REPLACEMENT // 2
        case {"type": "BPEDecoder", "suffix": ""} | {"type": "CTC", "word_delimiter_token": ""}:
            return 2
    return 1


def _around(part: dict[str, Any]) -> int:
    """Count the tokens of a template; a second place for the same text counts as the limit."""
    if part.get("type") != "TemplateProcessing":
        return 2
    sizes = {name: len(token["ids"]) for name, token in part["special_tokens"].items()}
    counts = []
    for template in (part["single"], part["pair"]):
        texts = [piece["Sequence"]["id"] for piece in template if "Sequence" in piece]
        names = [piece["SpecialToken"]["id"] for piece in template if "SpecialToken" in piece]
        missing = set(names) - set(sizes)
        if missing:
            raise ValueError(f"its template has the special token {min(missing)!r}, and no ids for it")
        counts.append(sum(map(sizes.__getitem__, names)) + (MAX_AROUND + 1 if len(set(texts)) < len(texts) else 1))
    return max(counts)


def _refuse_long_tokens(content: bytes) -> None:
    """Refuse a file in which two neighbouring quotation marks are further apart than a token may be long.

    Raises:
        ValueError: a token is too long.
    """
    begin = -1
    while begin < len(content):
        end = content.rfind(b'"', begin + 1, begin + MAX_TOKEN_BYTES + 2)
        if end < 0:
            end = content.find(b'"', begin + 1)
            end = len(content) if end < 0 else end
            size = end - begin - 1
            # The one long string is a table of characters.
            is_table = content[:begin].rstrip(b" :").endswith(b'"precompiled_charsmap"')
            if size > MAX_TOKEN_BYTES and not is_table:
                raise ValueError(f"a token of {size:,} bytes is more than the {MAX_TOKEN_BYTES:,} allowed")
        begin = end
