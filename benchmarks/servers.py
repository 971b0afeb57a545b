"""Servers under measurement, each a process that listens on a free port.

Peers need other versions of libraries than Triform's tests: `TRIFORM_BENCH_PYTHON` names the interpreter of an
environment with infinity-emb, or FastAPI and sentence-transformers.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PYTHON = os.environ.get("TRIFORM_BENCH_PYTHON", sys.executable)
PATIENCE = 120
"""Seconds in which a server must be ready."""


def ours(folder: Path, *, dtype: str = "float32") -> list[str]:
    """Return the command of Triform's server."""
    return [sys.executable, "-m", "triform", "serve", f"model={folder}", "--dtype", dtype]


def infinity(folder: Path) -> list[str]:
    """Return the command of infinity with its fastest settings for a CPU."""
    options = [
        "--engine",
        "torch",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--url-prefix",
        "/v1",
        "--batch-size",
        "32",
    ]
    return [PYTHON, "-m", "infinity_emb.cli", "v2", "--model-id", str(folder), "--served-model-name", "model", *options]


def fastapi(folder: Path) -> list[str]:
    """Return the command of sentence-transformers behind FastAPI."""
    return [PYTHON, "-P", str(Path(__file__).parent / "peers" / "fastapi_server.py"), str(folder)]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    url: str
    process: int
    """Number of the process."""


@contextmanager
def running(command: Sequence[str]) -> Iterator[Running]:
    """Run a server until the context ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        limit = time.monotonic() + PATIENCE
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"{' '.join(command)} is not ready.")
            time.sleep(0.1)
        yield Running(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
