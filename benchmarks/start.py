"""Cold start and memory of MiniLM-L6, each in a process of its own.

A time is that of the whole process, from its start to its end, with the files in the page cache, the modules compiled
and Triform's packed weights there: what is measured is work of the processor, mostly importing, and no disk. The times
of imports alone show what Triform adds to the libraries under it.

Memory is that of encoding the mixed texts of `benchmarks.encoder`, by peers in batches of 32 sorted by length. Resident
memory counts pages of mapped files, such as weights and shared libraries; anonymous memory does not. What imports alone
take stands beside it.

    python -m benchmarks.start [--only start-int8 …] [--peers …] [--pairs N] [--quick] [--keep]
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks import ours
from benchmarks.agreement import check_close
from benchmarks.checkpoints import Workspace, workspace
from benchmarks.encoder import NUM_TEXTS, VOCAB_SIZE
from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import OURS, Comparison, Series, interleave, seconds
from benchmarks.peers import ENCODER_PEERS, NAMES, encoder_peer
from benchmarks.processes import run, run_watched
from benchmarks.report import Arguments, Report, parse_arguments
from benchmarks.workload import describe_texts, mixed_texts

MODEL = "minilm"
FORMATS = tuple(ENCODER_PEERS)
CASES = [f"{kind}-{format}" for kind in ("start", "memory") for format in FORMATS]
SENTENCE = "A cat sat on the mat."
IMPORTS = ("import numpy", "import numpy, tokenizers", "import triform")
LOOK = "\nimport time\ntime.sleep(0.1)"
"""Appended to programs that end too soon to be watched."""

FIRST_EMBEDDING = {
    "Triform": """
import json, sys
import triform
embed = triform.pipeline("sentence-embedding", model=sys.argv[1], dtype=sys.argv[4], engine=sys.argv[5])
print(json.dumps(embed(sys.argv[3]).tolist()))
""",
    "transformers": """
import json, sys
import torch, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
model = transformers.AutoModel.from_pretrained(sys.argv[1], add_pooling_layer=False)
with torch.inference_mode():
    vector = model(**tokenizer(sys.argv[3], return_tensors="pt")).last_hidden_state[0].mean(0)
print(json.dumps((vector / vector.norm()).tolist()))
""",
    "ONNX Runtime": """
import json, sys
import numpy, onnxruntime, tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
tokenizer.no_padding()
ids = numpy.array([tokenizer.encode(sys.argv[3]).ids])
session = onnxruntime.InferenceSession(sys.argv[2] + "/model.onnx", providers=["CPUExecutionProvider"])
vector = session.run(None, {"input_ids": ids, "attention_mask": numpy.ones_like(ids)})[0][0]
print(json.dumps((vector / numpy.linalg.norm(vector)).tolist()))
""",
}
"""Side → the shortest program that embeds the sentence. It is given the checkpoint, the converted model, the sentence,
the format and Triform's engine."""

ENCODE_OURS = """
import sys
from benchmarks import ours
from benchmarks.workload import mixed_texts
ours.embed(ours.load_encoder(sys.argv[1], sys.argv[2]), mixed_texts(int(sys.argv[3]), int(sys.argv[4])))
"""
ENCODE = """
import sys
from pathlib import Path
from benchmarks.machine import num_cores
from benchmarks.peers import encoder_peer
from benchmarks.peers.batches import embed_sorted
from benchmarks.workload import mixed_texts
embed = encoder_peer("{peer}").load_encoder(Path(sys.argv[1]), sys.argv[2], streams=1, threads=num_cores())
embed_sorted(embed, mixed_texts(int(sys.argv[3]), int(sys.argv[4])), batch_size=32, streams=1)
"""


def converted(place: Workspace, arguments: Arguments, format: str) -> Mapping[str, Path]:
    """Convert the model for each peer: module → model."""
    return {
        peer: place.converted(MODEL, peer, format, encoder_peer(peer).convert_encoder)
        for peer in arguments.chosen(ENCODER_PEERS[format])
    }


def measure_start(
    format: str, place: Workspace, arguments: Arguments, facts: dict[str, str]
) -> tuple[list[Comparison], list[Series]]:
    """Measure the time from process start to the first embedding."""
    models = {NAMES[peer]: folder for peer, folder in converted(place, arguments, format).items()}
    if ours.has(format):
        models = {OURS: place.checkpoint(MODEL), **models}
    programs = {
        side: partial(run, code, str(place.checkpoint(MODEL)), str(models[side]), SENTENCE, format, ours.ENGINE)
        for side, code in FIRST_EMBEDDING.items()
        if side in models
    }
    reference = json.loads(
        run(FIRST_EMBEDDING[OURS], str(place.checkpoint(MODEL)), "", SENTENCE, "float32", "reference")
    )
    facts[f"start-{format}, answers"] = ", ".join(
        check_close(side, json.loads(program()), reference, format) for side, program in programs.items()
    )
    imports = [partial(seconds, partial(run, code)) for code in IMPORTS]
    runs = {side: partial(seconds, program) for side, program in programs.items()}
    times = interleave([*imports, *runs.values()], rounds=arguments.pairs)
    values = dict(zip(runs, times[len(imports) :], strict=True))
    series = [
        Series(name=f"start-{format}, {code}", unit="s", values=own)
        for code, own in zip(IMPORTS, times[: len(imports)], strict=True)
    ]
    return [Comparison(name=f"start-{format}", unit="s", values=values)], series


def measure_memory(
    format: str, place: Workspace, arguments: Arguments, facts: dict[str, str]
) -> tuple[list[Comparison], list[Series]]:
    """Measure the peaks during encoding."""
    count = 8 if arguments.quick else NUM_TEXTS
    facts[f"memory-{format}, texts"] = describe_texts(mixed_texts(count, VOCAB_SIZE))
    watch = {
        NAMES[peer]: partial(run_watched, ENCODE.format(peer=peer), str(folder))
        for peer, folder in converted(place, arguments, format).items()
    }
    if ours.has(format):
        watch = {OURS: partial(run_watched, ENCODE_OURS, str(place.checkpoint(MODEL))), **watch}
    peaks = interleave(
        [partial(program, format, str(count), str(VOCAB_SIZE)) for program in watch.values()], rounds=arguments.pairs
    )
    comparisons = [
        Comparison(
            name=f"memory-{format}, {kind}",
            unit="MiB",
            values={side: [getattr(memory, kind) for memory in own] for side, own in zip(watch, peaks, strict=True)},
        )
        for kind in ("resident", "anonymous")
    ]
    imported = [run_watched("from benchmarks import ours" + LOOK).anonymous for _ in range(arguments.pairs)]
    return comparisons, [
        Series(name=f"memory-{format}, anonymous, imports of Triform alone", unit="MiB", values=imported)
    ]


def main() -> None:
    arguments = parse_arguments(__doc__, CASES)
    bystanders = Bystanders()
    facts: dict[str, str] = {}
    comparisons: list[Comparison] = []
    series: list[Series] = []
    with workspace(keep=arguments.keep) as place:
        for case in filter(arguments.wanted, CASES):
            kind, format = case.split("-")
            measure = measure_start if kind == "start" else measure_memory
            own, beside = measure(format, place, arguments, facts)
            comparisons += own
            series += beside
    Report(
        title="Cold start and memory, MiniLM-L6 (less is better)",
        machine=Machine.here(),
        pairs=arguments.pairs,
        comparisons=comparisons,
        series=series,
        facts={**facts, "other processes": str(bystanders)},
    ).print()


if __name__ == "__main__":
    main()
