"""What the figures were measured on. Nothing here names the computer, its user or a place on its disk."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path

import numpy as np

FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16")
"""Instruction sets that matter to the matrix products, as named by /proc/cpuinfo."""

PACKAGES = (
    *("numpy", "tokenizers", "safetensors", "triform"),
    *("torch", "transformers", "onnxruntime", "openvino", "nncf", "ctranslate2", "llama-cpp-python"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Hardware, versions and date."""

    cpu: str
    cores: int
    """Cores available to this process."""
    flags: list[str]
    memory_gib: float
    versions: dict[str, str]
    date: str

    @classmethod
    def here(cls, packages: Sequence[str] = PACKAGES) -> "Machine":
        """Describe this computer, today, and the versions of the compared packages."""
        info = _cpu_info()
        flags = info.get("flags", "").split()
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return cls(
            cpu=info.get("model name") or platform.machine(),
            cores=num_cores(),
            flags=[flag for flag in FLAGS if flag in flags],
            memory_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
            versions={
                "python": platform.python_version(),
                "BLAS of numpy": f"{blas['name']} {blas['version']}",
                **{package: version(package) for package in packages if is_installed(package)},
            },
            date=datetime.now(UTC).date().isoformat(),
        )


def is_installed(package: str) -> bool:
    """Return whether a package is installed; not every benchmark needs every peer."""
    return any(True for _ in distributions(name=package))


class Bystanders:
    """A record of the load by other processes since the start of a benchmark.

    A busy core costs a library whose threads wait for each other in a spin far more than its fair share: torch was
    seen to take a hundred times as long. Figures beside more than a few percent of a core are worth nothing.
    """

    def __init__(self) -> None:
        self._begin, self._busy, self._own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def __str__(self) -> str:
        elapsed = time.perf_counter() - self._begin
        others = _busy_seconds() - self._busy - (_own_seconds() - self._own)
        return f"{max(0.0, 100 * others / elapsed):.0f} % of one core on average"


def num_cores() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0))


def _cpu_info() -> dict[str, str]:
    """Read the first processor of /proc/cpuinfo."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _busy_seconds() -> float:
    """Return the processor seconds of all work, and of time stolen by the host, since the machine started."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    ticks = dict(zip(names, map(int, Path("/proc/stat").read_text().split()[1:9]), strict=True))
    busy = sum(ticks.values()) - ticks["idle"] - ticks["iowait"]
    return busy / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Return the processor seconds of this process and the waited-for children."""
    return sum(os.times()[:4])
