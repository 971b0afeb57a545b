"""The description of the routes in OpenAPI 3.1, derived from the routes themselves."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from triform.serving.endpoint import Route
from triform.serving.errors import Dialect
from triform.version import __version__

REF = "#/components/schemas/{name}"
TEXT = {"type": "string"}
INNER = {
    "type": "object",
    "properties": {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")},
    "required": ["message", "type"],
}
OPENAI_ERROR = {
    "type": "object",
    "properties": {"error": INNER, "message": TEXT},
    "required": ["error", "message"],
}
TEXT_ERROR = {
    "type": "object",
    "properties": {"error": TEXT, "error_type": TEXT},
    "required": ["error", "error_type"],
}


def describe(routes: Sequence[Route], *, needs_key: bool) -> dict[str, Any]:
    """Describe routes as an OpenAPI document."""
    kinds = list(dict.fromkeys(route.body for route in routes if route.body not in (None, bytes)))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    bodies = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for number, path in enumerate(route.paths):
            operation = _operation(route, path, bodies)
            if number:
                operation["description"] = f"The same as {route.paths[0]}."
            paths.setdefault(path, {})[route.method.lower()] = operation
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Triform", "version": __version__, "summary": "Transformer models over HTTP."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }
    return document | ({"security": [{"key": []}]} if needs_key else {})


def _operation(route: Route, path: str, bodies: dict[Any, Any]) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", f"{route.method.lower()}{path}").strip("_")
    error = OPENAI_ERROR if route.dialect is Dialect.OPENAI else TEXT_ERROR
    failure = {"description": "An error.", "content": {"application/json": {"schema": error}}}
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": route.summary,
        "responses": {"200": {"description": "The answer."}, "default": failure},
    }
    if names := re.findall(r"\{(\w+)\}", path):
        operation["parameters"] = [{"name": each, "in": "path", "required": True, "schema": TEXT} for each in names]
    if route.body is bytes:
        operation["requestBody"] = {"required": True, "content": {"*/*": {}}}
    elif route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": bodies[route.body]}}}
    if route.is_open:
        operation["security"] = []
    return operation
