"""What probes and autoscalers ask: is it alive, is it ready, how busy is it."""

from time import monotonic
from typing import Any

from triform.serving.call import Call
from triform.serving.endpoint import Reply, Route
from triform.serving.errors import ApiError
from triform.serving.metrics import CONTENT_TYPE

MOST_SECONDS = 60.0
"""Seconds of a round of the executor after which it counts as stuck."""


async def health(call: Call, body: None) -> dict[str, Any]:
    """Answer whether the server takes requests."""
    problem = call.state.status.problem
    executor = call.state.executor
    if problem is None and not executor.is_alive:
        problem = "The executor has died."
    if problem is None and monotonic() - executor.heartbeat > MOST_SECONDS:
        problem = "The executor is stuck."
    if problem is not None:
        raise ApiError(503, problem, kind="unavailable_error", code="unavailable", headers={"Retry-After": "1"})
    return {"status": "ok"}


async def metrics(call: Call, body: None) -> Reply:
    """Answer with all metrics."""
    return Reply(call.state.metrics.text(), CONTENT_TYPE)


ROUTES = (
    Route(
        paths=["/health", "/v1/health", "/ping", "/", "/models/{model}/health"],
        method="GET",
        handler=health,
        is_open=True,
        is_light=True,
        summary="Whether the server takes requests: 200, or 503 while it loads or drains.",
    ),
    Route(paths=["/metrics"], method="GET", handler=metrics, is_light=True, summary="Metrics for Prometheus."),
)
