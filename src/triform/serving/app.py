"""The ASGI application: all routes, and an error in the form of clients for any other path."""

from collections.abc import Iterable
from dataclasses import replace

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from triform.serving.call import Call
from triform.serving.endpoint import Endpoint, Route
from triform.serving.errors import ApiError
from triform.serving.routes import ROUTES
from triform.serving.routes.health import metrics
from triform.serving.state import State

PLACES = {"model": "{model:path}"}


def make_app(state: State, routes: Iterable[Route] = ROUTES) -> Starlette:
    """Make the application."""
    known: dict[str, dict[str, Endpoint]] = {}
    for route in routes:
        if route.handler is metrics and state.settings.open_metrics:
            route = replace(route, is_open=True)  # noqa: PLW2901
        for path in route.paths:
            known.setdefault(path, {})[route.method] = Endpoint(route, state)
    starlette_routes = []
    # Fixed paths first: a model's name in a path may hold slashes.
    for path, endpoints in sorted(known.items(), key=lambda item: ("{" in item[0], -len(item[0]))):
        starlette_routes.append(StarletteRoute(path.replace("{model}", PLACES["model"]), _Methods(endpoints, state)))
    middleware = []
    if state.settings.cors_origin:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(state.settings.cors_origin),
                allow_methods=["*"],
                allow_headers=["*"],
            )
        )
    app = Starlette(routes=starlette_routes, middleware=middleware)
    app.router.default = Endpoint(Route(paths=["other"], method="GET", handler=_not_found, is_light=True), state)
    app.router.redirect_slashes = False
    return app


class _Methods:
    """Chooses the endpoint of a path by the method."""

    def __init__(self, endpoints: dict[str, Endpoint], state: State) -> None:
        self._endpoints = endpoints
        allowed = ", ".join(sorted(endpoints))

        async def refuse(call: Call, body: None) -> None:
            raise ApiError(405, f"Method not allowed: expected {allowed}.", headers={"Allow": allowed})

        dialect = next(iter(endpoints.values())).route.dialect
        self._other = Endpoint(
            Route(paths=["other"], method="GET", handler=refuse, is_light=True, dialect=dialect), state
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self._endpoints.get(method, self._other)(scope, receive, send)


async def _not_found(call: Call, body: None) -> None:
    raise ApiError(404, "No such route. GET /openapi.json lists the routes.", code="not_found")
