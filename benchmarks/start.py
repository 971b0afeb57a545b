"""Cold start and memory, each in a process of its own.

A time is that of the whole process, from its start to its end, with the files in the page cache and the modules
compiled: what is measured is work of the processor, mostly importing, and no disk. The times of imports alone show
what Triform adds to the libraries under it.

Memory is read from outside, from /proc, every 10 ms while a process encodes the texts of `benchmarks.encoder` with
MiniLM-L6. Peak resident memory is the kernel's own high-water mark; it counts pages of mapped files, such as weights
and shared libraries, which the system can drop and read again. Anonymous memory is what it cannot; its peak is the
greatest value seen, so that one shorter than 10 ms may be missed. A child's ru_maxrss would not do: it begins with
the size of the parent.

    python -m benchmarks.start [--pairs N] [--quick]
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.agreement import check_close
from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import Comparison, Series, interleave, seconds
from benchmarks.report import Report, parse_arguments
from benchmarks.workload import describe_texts, minilm_folder, mixed_texts

SENTENCE = "A cat sat on the mat."
IMPORTS = ("import numpy", "import numpy, tokenizers, safetensors", "import triform")
FIRST_EMBEDDING = """
import json, sys
from benchmarks.{side} import embed_sentence
print(json.dumps(embed_sentence(sys.argv[1], sys.argv[2])))
"""
ENCODE = """
import sys
from benchmarks.{side} import embed, load_encoder
from benchmarks.workload import mixed_texts
embed(load_encoder(sys.argv[1]), mixed_texts(int(sys.argv[2]), int(sys.argv[3])))
"""
SIDES = ("ours", "peer")
VOCAB_SIZE = 30522
"""Of MiniLM-L6."""
INTERVAL = 0.01


@dataclass(frozen=True, slots=True)
class Memory:
    """Peaks of one process in MiB."""

    resident: float
    anonymous: float


def run(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter: what it prints."""
    process = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return process.stdout


def run_watched(code: str, *arguments: str) -> Memory:
    """Run code in a fresh interpreter, and watch its memory."""
    peaks = {"VmHWM": 0, "RssAnon": 0}
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text().splitlines():
                key, _, value = line.partition(":")
                if key in peaks:
                    peaks[key] = max(peaks[key], int(value.split()[0]))
            time.sleep(INTERVAL)
    if process.returncode:
        raise SystemExit(f"A measured process failed with exit code {process.returncode}.")
    return Memory(peaks["VmHWM"] / 1024, peaks["RssAnon"] / 1024)


def main() -> None:
    arguments = parse_arguments(__doc__)
    bystanders = Bystanders()
    folder = str(minilm_folder())
    count = 8 if arguments.quick else 256

    embedders = [partial(run, FIRST_EMBEDDING.format(side=side), folder, SENTENCE) for side in SIDES]
    answers = check_close(*(json.loads(embedder()) for embedder in embedders))
    starts = [*(partial(run, code) for code in IMPORTS), *embedders]
    *imports, ours, peer = interleave([partial(seconds, start) for start in starts], rounds=arguments.pairs)

    encoders = [partial(run_watched, ENCODE.format(side=side), folder, str(count), str(VOCAB_SIZE)) for side in SIDES]
    our_memory, peer_memory = interleave(encoders, rounds=arguments.pairs)

    first = Comparison(name="start to first embedding", unit="s", triform=ours, transformers=peer)
    resident = Comparison(
        name="peak resident memory",
        unit="MiB",
        triform=[memory.resident for memory in our_memory],
        transformers=[memory.resident for memory in peer_memory],
    )
    anonymous = Comparison(
        name="peak anonymous memory",
        unit="MiB",
        triform=[memory.anonymous for memory in our_memory],
        transformers=[memory.anonymous for memory in peer_memory],
    )
    Report(
        title="Cold start and memory, MiniLM-L6 (less is better)",
        machine=Machine.here(),
        pairs=arguments.pairs,
        comparisons=[first, resident, anonymous],
        series=[Series(name=code, unit="s", values=values) for code, values in zip(IMPORTS, imports, strict=True)],
        facts={
            "answers of the first embedding": answers,
            "memory while encoding": describe_texts(mixed_texts(count, VOCAB_SIZE)),
            "other processes": str(bystanders),
        },
    ).print()


if __name__ == "__main__":
    main()
