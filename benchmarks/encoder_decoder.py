"""Encoder-decoder throughput: exactly 32 new tokens for each source, in tokens of the returned answers per second.

The model has the shape of a Marian base model with random weights. One source of median length or 32 of mixed lengths,
greedy or by 4 beams. The time is that of the whole call: the encoder reads the sources once, the cross keys and values
are made once, and 32 steps follow for all sequences together. A peer gets the threads that are best for it. A step is
small, so that its limit is neither arithmetic nor memory alone but also the overhead of many small operations; no share
of a physical limit is given.

    python -m benchmarks.encoder_decoder [--only marian-int8 …] [--peers …] [--pairs N] [--quick] [--keep]
"""

from functools import partial

from benchmarks import ours
from benchmarks.agreement import check_tokens
from benchmarks.cases import run_cases
from benchmarks.checkpoints import SHAPES, Workspace
from benchmarks.measure import OURS, Comparison, compare, seconds
from benchmarks.peers import ENCODER_DECODER_PEERS, NAMES, Translate, encoder_decoder_peer
from benchmarks.report import Arguments
from benchmarks.tuning import Setting, alone, fastest, spread
from benchmarks.workload import describe_texts, mixed_texts

BEAMS = {"greedy": 1, "beams": 4}
NUM_SOURCES = (1, 32)
NUM_TOKENS = 32
CASES = [
    f"marian-{format}-{count}-{search}" for format in ENCODER_DECODER_PEERS for count in NUM_SOURCES for search in BEAMS
]


def peer_side(
    peer: str, place: Workspace, model: str, format: str, sources: list[list[int]], num_beams: int
) -> tuple[Translate, Setting]:
    """Load a peer with the best number of threads for these sources."""
    module = encoder_decoder_peer(peer)
    folder = place.converted(model, peer, format, module.convert_encoder_decoder)

    def load(setting: Setting) -> Translate:
        return module.load_encoder_decoder(folder, format, streams=setting.streams, threads=setting.threads)

    settings = alone() if len(sources) == 1 else spread(len(sources))
    _, best = fastest(lambda setting: partial(load(setting), sources, NUM_TOKENS, num_beams), settings)
    return load(best), best


def measure(case: str, place: Workspace, arguments: Arguments, facts: dict[str, str]) -> list[Comparison]:
    """Compare in a case, and note the conditions beside the figures."""
    _, format, count, search = case.split("-")
    model = "marian-tiny" if arguments.quick else "marian-base"
    texts = mixed_texts(max(NUM_SOURCES), SHAPES[model].config["pad_token_id"])
    sources = texts if int(count) > 1 else [sorted(texts, key=len)[len(texts) // 2]]
    facts[f"{case}, sources"] = describe_texts(sources)

    sides: dict[str, Translate] = {}
    settings: list[str] = []
    if ours.has(format):
        sides[OURS] = partial(ours.translate, ours.load(place.checkpoint(model), format))
    else:
        facts[f"{case}, {OURS}"] = f"left out: the engine has no {format} yet"
    for peer in arguments.chosen(ENCODER_DECODER_PEERS[format]):
        sides[NAMES[peer]], setting = peer_side(peer, place, model, format, sources, BEAMS[search])
        settings.append(f"{NAMES[peer]} {setting}")
    facts[f"{case}, settings"] = "; ".join(settings)

    reference = ours.translate(ours.load(place.checkpoint(model), "float32"), texts, NUM_TOKENS, 1)
    facts[f"{case}, greedy answers as Triform's in float32"] = ", ".join(
        check_tokens(name, translate(texts, NUM_TOKENS, 1), reference, NUM_TOKENS) for name, translate in sides.items()
    )
    runs = {
        name: partial(seconds, partial(translate, sources, NUM_TOKENS, BEAMS[search]))
        for name, translate in sides.items()
    }
    for run in runs.values():
        run()
    return [compare(case, runs, amount=NUM_TOKENS * len(sources), pairs=arguments.pairs)]


if __name__ == "__main__":
    run_cases(__doc__, CASES, f"Encoder-decoder, {NUM_TOKENS} new tokens", measure)
