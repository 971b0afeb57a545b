"""Random numbers with a key for each sequence: a sequence draws the same numbers alone and in any batch."""

import os
import threading
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from triform.engines import Integers
from triform.generation.processors import Floats, softmax
from triform.inputs import Batch


def sequence_keys(batch: Batch, num_return_sequences: int, seed: int | None) -> list[int]:
    """Compute a random key for each answer, from the seed, the ids of the prompt, and the number of the answer.

    With a seed, equal prompts have equal keys: a count of equal prompts would depend on the cut into batches.

    Arguments:
        batch: B prompts.
        num_return_sequences: answers to each prompt.
        seed: None for a random seed of each prompt.

    Returns:
        B · num_return_sequences keys, in the order of the prompts.
    """
    keys = []
    for begin, end in batch.spans.pairs():
        prompt = batch.ids[begin:end].astype("<i8").tobytes()
        chosen = int.from_bytes(os.urandom(8)) if seed is None else seed
        for answer in range(num_return_sequences):
            name = f"{chosen} {answer} ".encode() + prompt
            keys.append(int.from_bytes(blake2b(name, digest_size=16).digest(), "little"))
    return keys


def uniform(key: int, step: int) -> float:
    """Draw a number in [0, 1), always the same for a key and a step."""
    return _generator.at(key, step).random()


NO_NUMBERS = np.zeros(4, np.uint64)


class _Generator(threading.local):
    """A generator for each thread. Setting its state is five times as fast as making a new one."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(0)
        self._generator = np.random.Generator(self._bits)

    def at(self, key: int, step: int) -> "np.random.Generator":
        """Move the generator to a key and a step. Salmon et al. 2011: numbers are a function of key and counter."""
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {
                # The step counts in the upper half of the counter, so that one step may draw many numbers.
                "counter": np.array([0, 0, step, 0], np.uint64),
                "key": np.array([key & 2**64 - 1, key >> 64], np.uint64),
            },
            # The buffer of four numbers is used up, so the next number is a new one.
            "buffer": NO_NUMBERS,
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._generator


_generator = _Generator()


def draw(logits_BV: Floats, numbers: Sequence[float]) -> list[int]:
    """Sample a token in each row by inverse transform: (B, V) logits and B uniform numbers → B tokens."""
    cumulative: NDArray[np.float64] = np.cumsum(softmax(logits_BV), axis=-1, dtype=np.float64)
    cumulative /= cumulative[:, -1:]
    return [int(row.searchsorted(number, side="right")) for row, number in zip(cumulative, numbers, strict=True)]


def draw_several(logits: Floats, k: int, *, key: int, step: int) -> Integers:
    """Sample k places of a vector by probability, without replacement: (V,) logits → (k,).

    Gumbel top-k: the k greatest of logits with Gumbel noise, in order. Kool et al. 2019, section 2.3.
    """
    noise = _generator.at(key, step).gumbel(size=len(logits))
    return np.argsort(-(logits + noise), kind="stable")[:k]
