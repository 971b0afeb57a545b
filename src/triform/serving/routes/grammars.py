"""Compiled grammars, kept by their source: a program asks for the same form many times."""

import json
from functools import lru_cache
from typing import NamedTuple

from triform.generation import Grammar
from triform.inputs import Tokenizer

MAX_GRAMMARS = 16
"""Compiled grammars that are kept."""
ANY_OBJECT = {"type": "object"}


class Form(NamedTuple):
    """The form of an answer."""

    kind: str
    """One of json, regex, choice and grammar."""
    source: str
    """A schema or texts in JSON, a pattern, or a grammar in Lark."""
    place: str = ""
    """The field of the body that asks for the form, for errors."""


@lru_cache(MAX_GRAMMARS)
def compiled(tokenizer: Tokenizer, kind: str, source: str) -> Grammar:
    """Compile a form of a kind for the texts of a tokenizer.

    Raises:
        InputError: the form cannot be enforced whole; naming the keyword.
    """
    match kind:
        case "json":
            return Grammar.of_json_schema(json.loads(source), tokenizer)
        case "regex":
            return Grammar.of_regex(source, tokenizer)
        case "choice":
            return Grammar.of_choices(json.loads(source), tokenizer)
    return Grammar.of_lark(source, tokenizer)
