"""The routes, a file for each family of clients. Every route of every file is served."""

from triform.serving.endpoint import Route
from triform.serving.routes import (
    description,
    health,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_models,
    openai_responses,
)

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *description.ROUTES,
    *openai_models.ROUTES,
    *openai_chat.ROUTES,
    *openai_completions.ROUTES,
    *openai_responses.ROUTES,
    *openai_embeddings.ROUTES,
)
