"""The description of the routes: complete, and no request that it allows ends in 5xx."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.serving.harness import Running
from triform.serving.openapi import describe
from triform.serving.routes import ROUTES

FIRST_PATHS = [(route.method, route.paths[0]) for route in ROUTES]


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize(("method", "path"), FIRST_PATHS, ids=lambda part: part)
def test_no_request_breaks_the_server(server: Running, method: str, path: str) -> None:
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path][method]

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(operation.as_strategy())
    def attempt(case: Any) -> None:
        answer = case.call(timeout=60)
        assert answer.status_code < 500, answer.text

    attempt()


def test_every_path_is_described() -> None:
    paths = describe(ROUTES, needs_key=True)["paths"]
    for route in ROUTES:
        assert route.summary, route.paths
        assert all(route.method.lower() in paths[path] for path in route.paths)
