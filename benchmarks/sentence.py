"""Encoder latency: one sentence of 12 tokens at a time, MiniLM-L6, from ids to a mean-pooled vector, in milliseconds.

A value is the median over 64 different sentences, one after the other. A peer gets the number of threads that is best
for it. Nothing physical limits so small a model but its 10.6 million weights, which fit the larger caches in int8: what
counts is what a runtime does beside arithmetic.

    python -m benchmarks.sentence [--only minilm-int8 …] [--peers ctranslate2 …] [--pairs N] [--quick] [--keep]
"""

from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks import ours
from benchmarks.agreement import check_close
from benchmarks.cases import run_cases
from benchmarks.checkpoints import Workspace
from benchmarks.encoder import VOCAB_SIZE
from benchmarks.measure import OURS, Comparison, compare, seconds
from benchmarks.peers import ENCODER_PEERS, NAMES, Embed, encoder_peer
from benchmarks.report import Arguments
from benchmarks.tuning import Setting, alone, fastest
from benchmarks.workload import random_texts

MODEL = "minilm"
CASES = [f"{MODEL}-{format}" for format in ENCODER_PEERS]
LENGTH = 12
NUM_SENTENCES = 64


def milliseconds(embed: Embed, sentences: list[list[int]]) -> float:
    """Return the median time of a sentence."""
    return 1e3 * median(seconds(partial(embed, [sentence])) for sentence in sentences)


def peer_side(peer: str, place: Workspace, format: str, sentences: list[list[int]]) -> tuple[Embed, int]:
    """Load a peer with the best number of threads; return the number as well."""
    module = encoder_peer(peer)
    folder = place.converted(MODEL, peer, format, module.convert_encoder)

    def load(setting: Setting) -> Embed:
        return module.load_encoder(folder, format, streams=setting.streams, threads=setting.threads)

    _, best = fastest(lambda setting: partial(one_by_one, load(setting), sentences), alone())
    return load(best), best.threads


def measure(case: str, place: Workspace, arguments: Arguments, facts: dict[str, str]) -> list[Comparison]:
    """Compare in a format, and note the conditions beside the figures."""
    format = case.removeprefix(f"{MODEL}-")
    sentences = random_texts([LENGTH] * (4 if arguments.quick else NUM_SENTENCES), VOCAB_SIZE)
    sides: dict[str, Embed] = {}
    threads: list[str] = []
    if ours.has(format):
        sides[OURS] = partial(ours.embed, ours.load_encoder(place.checkpoint(MODEL), format))
    else:
        facts[f"{case}, {OURS}"] = f"left out: the engine has no {format} yet"
    for peer in arguments.chosen(ENCODER_PEERS[format]):
        sides[NAMES[peer]], best = peer_side(peer, place, format, sentences)
        threads.append(f"{NAMES[peer]} {best}")
    facts[f"{case}, threads"] = ", ".join(threads)

    reference = ours.embed(ours.load_reference_encoder(place.checkpoint(MODEL)), sentences)
    facts[f"{case}, answers"] = ", ".join(
        check_close(name, one_by_one(embed, sentences), reference, format) for name, embed in sides.items()
    )
    runs: dict[str, Callable[[], float]] = {
        name: partial(milliseconds, embed, sentences) for name, embed in sides.items()
    }
    return [compare(case, runs, unit="ms", pairs=arguments.pairs)]


def one_by_one(embed: Embed, sentences: list[list[int]]) -> NDArray[np.float32]:
    """Embed each sentence alone: vectors (sentences, hidden_size)."""
    return np.concatenate([embed([sentence]) for sentence in sentences])


if __name__ == "__main__":
    run_cases(__doc__, CASES, f"One sentence of {LENGTH} tokens (less is better)", measure)
