"""What all requests share: the models, the executor, and whether the server takes requests."""

import asyncio
from concurrent.futures import Executor as Pool
from dataclasses import dataclass, field

from triform.serving.admission import Admission
from triform.serving.executor import Executor
from triform.serving.metrics import Metrics
from triform.serving.models import Registry
from triform.serving.settings import Settings


@dataclass(kw_only=True)
class Status:
    """Whether the server takes requests."""

    problem: str | None = "The models are loading."
    """Why not, or None."""
    num_open: int = 0
    """Requests in flight."""
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(kw_only=True)
class State:
    """What all calls share."""

    settings: Settings
    status: Status
    registry: Registry
    executor: Executor
    admission: Admission
    metrics: Metrics
    pool: Pool
    """Threads for tokenizing, templates and large answers."""

    def watch(self) -> None:
        """Add the gauges of what the server holds."""
        lanes = list(self.executor.lanes.values())
        gauges = {
            "triform_requests_in_flight": ("Requests that wait or run.", lambda: self.admission.num_requests),
            "triform_queued_tokens": ("Tokens of requests that wait or run.", lambda: self.admission.num_tokens),
            "triform_sequences_running": ("Sequences that generate.", lambda: sum(lane.num_running for lane in lanes)),
            "triform_jobs_waiting": (
                "Jobs that wait for the machine.",
                lambda: sum(len(lane.waiting) + len(lane.passes) for lane in lanes),
            ),
        }
        for name, (help, read) in gauges.items():
            self.metrics.watch(name, help, read)
        self.metrics.watch_process()
