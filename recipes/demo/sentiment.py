"""Texts with praise, complaint or neither."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from recipes.demo.grammar import Grammar

GRAMMAR = Grammar(Path(__file__).parent / "words" / "sentiment.toml")
LABELS = ("negative", "neutral", "positive")


def lines(rng: random.Random, *, held_out: bool = False) -> Iterator[str]:
    """Yield texts and labels, as JSON."""
    while True:
        label = rng.choice(LABELS)
        text = GRAMMAR.write("text", rng, feature=label, held_out=held_out).text
        yield json.dumps({"text": text, "label": label})
