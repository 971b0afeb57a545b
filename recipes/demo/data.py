"""Training and evaluation files of the demo models, written by the grammars."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from recipes.demo import entities, sentiment, stories, translation


@dataclass(frozen=True, slots=True)
class Corpus:
    """The examples and the number of training lines for a model."""

    examples: Callable[..., Iterator[str]]
    """Yields lines without end from a random generator; with `held_out`, lines that training never sees."""
    suffix: str
    num_train: int


NUM_HELD_OUT = {"validation": 300, "test": 1000}


CORPORA = {
    "sentiment": Corpus(sentiment.lines, "jsonl", 120_000),
    "entities": Corpus(entities.lines, "conll", 80_000),
    "translation": Corpus(translation.lines, "jsonl", 120_000),
    "story": Corpus(stories.lines, "txt", 10_000),
}


def write(name: str, folder: Path) -> None:
    """Write train, validation and test files; validation and test have held-out sentences and separate seeds."""
    corpus = CORPORA[name]
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, number) in enumerate({"train": corpus.num_train, **NUM_HELD_OUT}.items()):
        lines = corpus.examples(random.Random(seed), held_out=split != "train")
        with open(folder / f"{split}.{corpus.suffix}", "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in islice(lines, number))
