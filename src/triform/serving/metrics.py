"""Metrics for Prometheus. No label holds a user's text: labels are names that the server gives."""

import resource
import sys
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
STEP_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384)


class Metrics:
    """All metrics of a server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "triform_requests", "Requests answered.", ["route", "model", "task", "status"], registry=registry
        )
        self.seconds = Histogram(
            "triform_request_seconds",
            "Time from the first byte to the last.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "triform_queue_seconds", "Time of waiting for the machine.", ["task"], buckets=SECONDS, registry=registry
        )
        self.first_token_seconds = Histogram(
            "triform_time_to_first_token_seconds",
            "Time to the first token.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.token_seconds = Histogram(
            "triform_inter_token_seconds",
            "Time between tokens of a stream.",
            ["model"],
            buckets=STEP_SECONDS,
            registry=registry,
        )
        self.input_tokens = Counter("triform_input_tokens", "Tokens read.", ["model", "task"], registry=registry)
        self.cached_tokens = Counter(
            "triform_cached_tokens", "Tokens of prompts found in the cache.", ["model"], registry=registry
        )
        self.output_tokens = Counter("triform_output_tokens", "Tokens written.", ["model", "task"], registry=registry)
        self.truncated_tokens = Counter(
            "triform_truncated_tokens", "Tokens cut off inputs.", ["model"], registry=registry
        )
        self.input_length = Histogram(
            "triform_request_input_tokens", "Tokens read for a request.", ["task"], buckets=TOKENS, registry=registry
        )
        self.cancelled = Counter("triform_cancelled", "Requests whose client has gone.", ["stage"], registry=registry)
        self.rejected = Counter("triform_rejected", "Requests refused before any work.", ["reason"], registry=registry)

    def watch(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when it is scraped."""
        Gauge(name, help, registry=self.registry).set_function(read)

    def watch_process(self) -> None:
        """Add the memory of the process."""
        self.watch("triform_resident_memory_bytes", "Resident memory.", resident_bytes)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def resident_bytes() -> float:
    """Return the resident memory of the process, in bytes."""
    try:
        with open("/proc/self/statm") as statm:
            return float(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak if sys.platform == "darwin" else peak * 1024)
