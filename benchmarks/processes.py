"""Fresh processes: output and memory."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.01


@dataclass(frozen=True, slots=True)
class Memory:
    """Peaks of a process in MiB."""

    resident: float
    """High-water mark of the kernel, with pages of mapped files, such as weights and shared libraries, which
    the system can drop and read again."""

    anonymous: float
    """Memory that the system cannot drop: the greatest of samples every 10 ms, so that a shorter peak may be missed."""


def run(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter; return the output."""
    process = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return process.stdout


def run_watched(code: str, *arguments: str) -> Memory:
    """Run code in a fresh interpreter, and watch the memory from outside, in /proc.

    A child's ru_maxrss would not do: it begins with the size of the parent.
    """
    peaks = {"VmHWM": 0, "RssAnon": 0}
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
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
