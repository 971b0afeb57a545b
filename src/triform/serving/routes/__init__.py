"""The routes, a file for each family of clients. Every route of every file is served."""

from triform.serving.endpoint import Route
from triform.serving.routes import (
    cohere_embed,
    health,
    hugging_face,
    llama_server,
    openai_embeddings,
    rerank,
    tei,
    text_generation,
    tokenize,
)

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *openai_embeddings.ROUTES,
    *tei.ROUTES,
    *rerank.ROUTES,
    *cohere_embed.ROUTES,
    *hugging_face.ROUTES,
    *text_generation.ROUTES,
    *tokenize.ROUTES,
    *llama_server.ROUTES,
)
