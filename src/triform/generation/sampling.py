"""Chance, keyed so that a sequence draws the same alone, in any batch, and whatever else has ended."""

import os
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from triform.engines import Integers
from triform.generation.processors import Floats, softmax
from triform.inputs import Batch


def sequence_keys(batch: Batch, num_return_sequences: int, seed: int | None) -> list[int]:
    """A key for each answer: of the seed, the ids of its prompt, and how many equal prompts have been answered before.

    Arguments:
        batch: B prompts; where one comes twice, the second goes on where a longer row of answers to it would.
        num_return_sequences: answers to each prompt.
        seed: None for another one each time.

    Returns:
        B · num_return_sequences keys, those of the first prompt first.
    """
    chosen = int.from_bytes(os.urandom(8)) if seed is None else seed
    answered: Counter[bytes] = Counter()
    keys = []
    for begin, end in batch.spans.pairs():
        prompt = batch.ids[begin:end].astype("<i8").tobytes()
        for _ in range(num_return_sequences):
            name = f"{chosen} {answered[prompt]} ".encode() + prompt
            keys.append(int.from_bytes(blake2b(name, digest_size=16).digest(), "little"))
            answered[prompt] += 1
    return keys


def uniform(key: int, step: int) -> float:
    """A number from 0 up to 1, always the same for a key and a step."""
    return _generator(key, step).random()


def _generator(key: int, step: int) -> "np.random.Generator":
    # Salmon et al. 2011: the counter is the step, in the upper half, so that one step may draw many numbers.
    return np.random.Generator(np.random.Philox(key=key, counter=step << 128))


def draw(logits_BV: Floats, numbers: Sequence[float]) -> list[int]:
    """For each row the token at which its cumulative probability passes the row's number."""
    cumulative: NDArray[np.float64] = np.cumsum(softmax(logits_BV), axis=-1, dtype=np.float64)
    cumulative /= cumulative[:, -1:]
    return [int(row.searchsorted(number, side="right")) for row, number in zip(cumulative, numbers, strict=True)]


def draw_several(logits: Floats, k: int, *, key: int, step: int) -> Integers:
    """`k` places of a vector, drawn one after another by their probability, none of them twice.

    Gumbel top-k: the greatest of logits with Gumbel noise, in order. Kool et al. 2019, section 2.3.
    """
    noise = _generator(key, step).gumbel(size=len(logits))
    return np.argsort(-(logits + noise), kind="stable")[:k]
