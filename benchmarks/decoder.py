"""Decoder throughput: reading a prompt of 512 tokens, then 32 greedy steps for one sequence and for eight at once.

The models have the shape of Llama with random weights: 0.25 billion in float32, beside transformers, and 1.1 billion in
int8 and int4, beside llama.cpp in Q8_0 and Q4_0. Those are made from a checkpoint in bfloat16. The time of the steps is
that of 33 new tokens less that of 1, so that the prompt does not count. The eight prompts have 8 to 64 tokens, 32 on
average; transformers pads them on the left, the others pack them.

Prefill is limited by arithmetic: two operations for each weight and token; in float32 the share given is that of a
large matrix product. A decoding step is limited by reading: it fetches every weight from memory once, for all sequences
together; the share given is that of the read bandwidth, for Triform's bytes. Both limits are measured in the same run.
"kernels" are the same matrix-vector products alone, one after the other through `engine.linear`, without what lies
between them. "memory" is that of a fresh process that decodes: llama.cpp has its weights in pages of a mapped file.

    python -m benchmarks.decoder [--only 1.1b-int4 …] [--peers …] [--pairs N] [--quick] [--keep]
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import triform
from benchmarks import ours
from benchmarks.agreement import check_close
from benchmarks.cases import run_cases
from benchmarks.checkpoints import SHAPES, Workspace
from benchmarks.limits import Reader, bytes_per_step, multiplication_rate, read_bandwidth, weights_per_token
from benchmarks.measure import OURS, Comparison, compare, interleave, number, seconds
from benchmarks.processes import run_watched
from benchmarks.report import Arguments
from benchmarks.tuning import Setting, alone, fastest
from benchmarks.workload import random_texts

MODELS = {"float32": "0.25b", "int8": "1.1b", "int4": "1.1b"}
SAME_SIZE = {"int8": "Q8_0", "int4": "Q4_0"}
"""Format → the format of llama.cpp with the same size in memory."""

PROMPTS = {"prefill": [512], "one": [32], "eight": [8, 12, 17, 24, 33, 42, 56, 64]}
"""Measurement → the lengths of the prompts."""

CASES = [f"{model}-{format}-{what}" for format, model in MODELS.items() for what in (*PROMPTS, "kernels", "memory")]
NUM_STEPS = 32
CHECKED = 32
"""Length of the prompt for the comparison of logits."""

DECODE_OURS = """
import json, sys
from benchmarks import ours
ours.generate(ours.load(sys.argv[1], sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4]))
"""
DECODE_LLAMA_CPP = """
import json, sys
from pathlib import Path
from benchmarks.peers.llama_cpp import Decoder
Decoder(Path(sys.argv[1]), num_sequences=1).generate(json.loads(sys.argv[3]), int(sys.argv[4]))
"""


@dataclass(frozen=True, slots=True)
class Side:
    """A decoder, ready to run."""

    prefill: Callable[[list[int]], NDArray[np.float32]]
    """A prompt to the logits (vocab_size,) of the next token."""

    generate: Callable[[Sequence[list[int]], int], list[list[int]]]
    """Prompts and a number of tokens, to greedy tokens of this number for each."""

    format: str
    """Format that sets the tolerance of the logits."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model in a format, with the facts for the report."""

    name: str
    model: str
    format: str
    place: Workspace
    arguments: Arguments
    facts: dict[str, str]

    def prompts(self, what: str) -> list[list[int]]:
        """Draw prompts, the same in every run."""
        lengths = [length // 8 if self.arguments.quick else length for length in PROMPTS[what]]
        return random_texts(lengths, SHAPES[self.model].config["vocab_size"])

    def note(self, subject: str, fact: str) -> None:
        """Keep a fact for the report."""
        self.facts[f"{self.name}, {subject}"] = fact

    def ours(self) -> triform.Model | None:
        """Load Triform's model if the engine has the format."""
        if ours.has(self.format):
            return ours.load(self.place.checkpoint(self.model), self.format)
        self.note(OURS, f"left out: the engine has no {self.format} yet")
        return None

    def converted(self, format: str) -> Path:
        """Convert the model for llama.cpp."""
        from benchmarks.peers import llama_cpp

        return self.place.converted(self.model, "llama_cpp", format, llama_cpp.convert_decoder)


def peer_sides(case: Case, what: str) -> dict[str, Side]:
    """Return the peers of a case; for reading a prompt, int8 runs beside Q4_0 as well."""
    if case.format == "float32" and case.arguments.chosen(["transformers"]):
        from benchmarks.peers import transformers

        model = transformers.load_decoder(case.place.checkpoint(case.model))
        prefill, generate = partial(transformers.prefill, model), partial(transformers.generate, model)
        return {"transformers": Side(prefill, generate, case.format)}
    if case.format == "float32" or not case.arguments.chosen(["llama_cpp"]):
        return {}
    from benchmarks.peers import llama_cpp

    case.facts["llama.cpp was built for"] = llama_cpp.instruction_sets()
    sides = {}
    for format, theirs in SAME_SIZE.items():
        if format != case.format and (format, what) != ("int4", "prefill"):
            continue
        decoder = llama_cpp.Decoder(case.converted(theirs), num_sequences=len(PROMPTS[what]))

        def on_threads(setting: Setting, decoder: llama_cpp.Decoder = decoder) -> Callable[[], object]:
            decoder.use_threads(setting.threads)
            return partial(decoder.generate, case.prompts(what), 4)

        _, best = fastest(on_threads, alone())
        decoder.use_threads(best.threads)
        case.note(f"llama.cpp {theirs}", f"{best.threads} threads")
        sides[f"llama.cpp {theirs}"] = Side(decoder.prefill, decoder.generate, format)
    return sides


def measure_speed(case: Case, what: str) -> list[Comparison]:
    """Measure the reading of a prompt, or decoding steps after prompts."""
    model = case.ours()
    own = {OURS: Side(partial(ours.prefill, model), partial(ours.generate, model), case.format)} if model else {}
    sides = own | peer_sides(case, what)
    reference = ours.load(case.place.checkpoint(case.model), "auto")
    [probe] = random_texts([CHECKED], SHAPES[case.model].config["vocab_size"])
    expected = ours.prefill(reference, probe)
    case.note(
        "logits",
        ", ".join(check_close(name, side.prefill(probe), expected, side.format) for name, side in sides.items()),
    )
    del reference
    prompts = case.prompts(what)
    time_of = prefill_seconds if what == "prefill" else step_seconds
    runs = {name: partial(time_of, side, prompts) for name, side in sides.items()}
    for run in runs.values():
        run()
    amount = len(prompts[0]) if what == "prefill" else NUM_STEPS * len(prompts)
    comparison = compare(case.name, runs, amount=amount, pairs=case.arguments.pairs)
    if model:
        note_limit(case, comparison, model, what, len(prompts))
    return [comparison]


def prefill_seconds(side: Side, prompts: list[list[int]]) -> float:
    """Time the reading of the first prompt."""
    return seconds(partial(side.prefill, prompts[0]))


def step_seconds(side: Side, prompts: list[list[int]]) -> float:
    """Time the decoding steps, without the reading of the prompts."""
    return seconds(partial(side.generate, prompts, NUM_STEPS + 1)) - seconds(partial(side.generate, prompts, 1))


def note_limit(case: Case, comparison: Comparison, model: triform.Model, what: str, num_sequences: int) -> None:
    """Note the share of a physical limit that the figures reach."""
    if what == "prefill":
        if case.format != "float32":
            return
        # The head sees the last token alone.
        head = model.spec.output_stack.embedding
        weights = weights_per_token(model) - head.vocab_size * head.hidden_size
        limit = multiplication_rate() / (2 * weights)
        case.note("limit", f"{number(limit)} tokens/s by arithmetic; {comparison.shares(limit)}")
        return
    bandwidth, bytes_read = read_bandwidth(), bytes_per_step(model)
    limit = num_sequences * bandwidth / bytes_read
    case.note(
        "limit",
        f"{number(limit)} tokens/s by reading, {number(bytes_read / 1e6)} MB a step at {bandwidth / 1e9:.1f} GB/s; "
        + comparison.shares(limit),
    )


def measure_kernels(case: Case) -> list[Comparison]:
    """Measure all matrix-vector products of a step, and plain reading, in GB/s."""
    model = case.ours()
    if model is None:
        return []
    reader = Reader()
    products = ours.linears(model)
    bytes_read = bytes_per_step(model)
    runs: dict[str, Callable[[], float]] = {
        OURS: lambda: bytes_read / seconds(products) / 1e9,
        "plain reading": lambda: reader.bandwidth() / 1e9,
    }
    for run in runs.values():
        run()
    return [compare(case.name, runs, unit="GB/s", pairs=case.arguments.pairs)]


def measure_memory(case: Case) -> list[Comparison]:
    """Measure peaks of memory in a fresh process during the decoding of a sequence."""
    watch = {}
    if ours.has(case.format):
        watch[OURS] = partial(run_watched, DECODE_OURS, str(case.place.checkpoint(case.model)))
    if case.format != "float32" and case.arguments.chosen(["llama_cpp"]):
        format = SAME_SIZE[case.format]
        watch[f"llama.cpp {format}"] = partial(run_watched, DECODE_LLAMA_CPP, str(case.converted(format)))
    work = (case.format, json.dumps(case.prompts("one")), str(NUM_STEPS))
    for program in watch.values():
        program(*work)  # packs the weights
    peaks = interleave([partial(program, *work) for program in watch.values()], rounds=case.arguments.pairs)
    return [
        Comparison(
            name=f"{case.name}, {kind}",
            unit="MiB",
            values={name: [getattr(peak, kind) for peak in own] for name, own in zip(watch, peaks, strict=True)},
        )
        for kind in ("resident", "anonymous")
        if watch
    ]


def measure(name: str, place: Workspace, arguments: Arguments, facts: dict[str, str]) -> list[Comparison]:
    """Run the measurement in the name of a case."""
    size, format, what = name.split("-")
    case = Case(name, "llama-tiny" if arguments.quick else f"llama-{size}", format, place, arguments, facts)
    if what == "kernels":
        return measure_kernels(case)
    return measure_memory(case) if what == "memory" else measure_speed(case, what)


if __name__ == "__main__":
    run_cases(__doc__, CASES, "Decoder, greedy", measure)
