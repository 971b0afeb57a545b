"""The routes, a file for each family of clients. Every route of every file is served."""

from triform.serving.endpoint import Route
from triform.serving.routes import health, openai_embeddings

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *openai_embeddings.ROUTES,
)
