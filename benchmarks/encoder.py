"""Encoder throughput: 256 texts from ids to mean-pooled vectors, in tokens per second.

The texts are of mixed lengths (log-normal, median 45 tokens, longest 380), or all of 128 tokens. Tokens are those of
the texts; padding, which most peers compute as well, does not count. A peer gets the texts sorted by length, in the
batches and with the threads that a sweep on a quarter of them found best; Triform packs them as they come, 2048 tokens
a pass. The limit is arithmetic: each token meets every weight matrix once, two operations for each weight. The share
given is that of a large float32 matrix product in the same run; attention, norms and activations come on top.

    python -m benchmarks.encoder [--only minilm-int8 …] [--peers ctranslate2 …] [--pairs N] [--quick] [--keep]
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import ours
from benchmarks.agreement import check_close
from benchmarks.cases import run_cases
from benchmarks.checkpoints import Workspace
from benchmarks.limits import multiplication_rate, weights_per_token
from benchmarks.measure import OURS, Comparison, compare, number, seconds
from benchmarks.peers import ENCODER_PEERS, NAMES, encoder_peer
from benchmarks.peers.batches import embed_sorted
from benchmarks.report import Arguments
from benchmarks.tuning import Setting, best_batches
from benchmarks.workload import describe_texts, mixed_texts, random_texts

Texts = Sequence[list[int]]
Side = Callable[[Texts], NDArray[np.float32]]

MODELS = ("minilm", "bert-base")
WORKLOADS = ("mixed", "128")
CASES = [f"{model}-{format}-{work}" for model in MODELS for format in ENCODER_PEERS for work in WORKLOADS]
VOCAB_SIZE = 30522
"""Vocabulary size of both models."""
NUM_TEXTS = 256
CHECKED = 16
"""Every sixteenth text is compared before anything is timed."""


def peer_side(peer: str, place: Workspace, model: str, format: str, texts: Texts, record: str) -> tuple[Side, Setting]:
    """Load a peer in the best setting for these texts; the file `record` beside the model keeps the setting."""
    module = encoder_peer(peer)
    folder = place.converted(model, peer, format, module.convert_encoder)

    def load(setting: Setting) -> Side:
        embed = module.load_encoder(folder, format, streams=setting.streams, threads=setting.threads)
        return partial(embed_sorted, embed, batch_size=setting.batch_size, streams=setting.streams)

    sample = texts[::4]
    setting = best_batches(lambda setting: partial(load(setting), sample), folder / f"{record}.json")
    return load(setting), setting


def measure(case: str, place: Workspace, arguments: Arguments, facts: dict[str, str]) -> list[Comparison]:
    """Compare in a case, and note the conditions beside the figures."""
    model, format, work = case.rsplit("-", 2)
    model = "bert-tiny" if arguments.quick and model != "minilm" else model
    count = CHECKED if arguments.quick else NUM_TEXTS
    texts = mixed_texts(count, VOCAB_SIZE) if work == "mixed" else random_texts([128] * count, VOCAB_SIZE)
    facts[f"{case}, texts"] = describe_texts(texts)

    sides: dict[str, Side] = {}
    settings: list[str] = []
    limit = 0.0
    if ours.has(format):
        own = ours.load_encoder(place.checkpoint(model), format)
        sides[OURS] = partial(ours.embed, own)
        rate = multiplication_rate()
        facts["float32 matrix product"] = f"{number(rate / 1e9)} billion operations/s"
        limit = rate / (2 * weights_per_token(own))
    else:
        facts[f"{case}, {OURS}"] = f"left out: the engine has no {format} yet"
    for peer in arguments.chosen(ENCODER_PEERS[format]):
        sides[NAMES[peer]], setting = peer_side(peer, place, model, format, texts, f"{work}-{count}")
        settings.append(f"{NAMES[peer]} {setting}")
    facts[f"{case}, settings"] = "; ".join(settings)
    reference = reference_vectors(place.checkpoint(model), texts[::CHECKED])
    facts[f"{case}, answers"] = ", ".join(
        check_close(name, embed(texts)[::CHECKED], reference, format) for name, embed in sides.items()
    )
    runs = {name: partial(seconds, partial(embed, texts)) for name, embed in sides.items()}
    comparison = compare(case, runs, amount=sum(map(len, texts)), pairs=arguments.pairs)
    if limit and format == "float32":
        facts[f"{case}, limit"] = f"{number(limit)} tokens/s by arithmetic; {comparison.shares(limit)}"
    return [comparison]


def reference_vectors(checkpoint: Path, texts: Texts) -> NDArray[np.float32]:
    """Compute the vectors (texts, hidden_size) of Triform's reference engine in float32."""
    return ours.embed(ours.load_reference_encoder(checkpoint), texts)


if __name__ == "__main__":
    run_cases(__doc__, CASES, "Encoder", measure)
