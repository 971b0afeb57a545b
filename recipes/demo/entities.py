"""Sentences with their named entities, as words and BIO tags."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from recipes.demo.grammar import Grammar, Sentence

GRAMMAR = Grammar(Path(__file__).parent / "words" / "entities.toml")
WORD = re.compile(r"\w+|[^\w\s]")
"""Letters and digits together, every other sign alone, as in BERT's tokenizers."""


def lines(rng: random.Random, *, held_out: bool = False) -> Iterator[str]:
    """Yield texts in CoNLL columns: words and tags, then a blank line."""
    while True:
        words, tags = words_and_tags(GRAMMAR.write("text", rng, held_out=held_out))
        yield "".join(f"{word} {tag}\n" for word, tag in zip(words, tags, strict=True))


def words_and_tags(sentence: Sentence) -> tuple[list[str], list[str]]:
    """Return the words of a sentence and the entity tags; a leading article has no tag."""
    words = list(WORD.finditer(sentence.text))
    tags = ["O"] * len(words)
    for name, first, last in sentence.spans:
        inside = [index for index, word in enumerate(words) if first <= word.start() < last]
        if words[inside[0]][0].lower() == "the":
            inside = inside[1:]
        for index in inside:
            tags[index] = ("B-" if index == inside[0] else "I-") + name
    return [word[0] for word in words], tags
