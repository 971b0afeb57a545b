"""The description of all routes in OpenAPI."""

from typing import Any

from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.openapi import describe


async def description(call: Call, body: None) -> dict[str, Any]:
    """Answer with the OpenAPI document."""
    from triform.serving.routes import ROUTES as EVERY

    return describe(EVERY, needs_key=bool(call.settings.api_key))


ROUTES = (
    Route(
        paths=["/openapi.json"],
        method="GET",
        handler=description,
        is_light=True,
        summary="This description of the routes.",
    ),
)
