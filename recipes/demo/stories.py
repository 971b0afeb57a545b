"""Short stories. A tenth of all heroes' encounters (with a thing, a place, an animal) is kept for held-out stories."""

import random
from collections.abc import Iterator
from pathlib import Path

from recipes.demo.grammar import Grammar, is_reserved

GRAMMAR = Grammar(Path(__file__).parent / "words" / "story.toml")


def lines(rng: random.Random, *, held_out: bool = False) -> Iterator[str]:
    """Yield stories."""
    while True:
        story = GRAMMAR.write("story", rng, feature=rng.choice(("girl", "boy")))
        words = {name: story.text[first:last] for name, first, last in story.spans}
        hero = words.pop("hero")
        if any(is_reserved(f"{hero} {other}") for other in words.values()) == held_out:
            yield story.text
