"""The routes, a file for each family of clients. Every route of every file is served."""

from typing import Any

from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.openapi import describe
from triform.serving.routes import health, openai_embeddings

WORK: tuple[Route, ...] = (
    *health.ROUTES,
    *openai_embeddings.ROUTES,
)


async def _openapi(call: Call, body: None) -> dict[str, Any]:
    return describe(ROUTES, needs_key=bool(call.settings.api_key))


ROUTES: tuple[Route, ...] = (
    *WORK,
    Route(
        paths=["/openapi.json"],
        method="GET",
        handler=_openapi,
        is_light=True,
        summary="This description of the routes.",
    ),
)
