"""OpenAI's embeddings. https://platform.openai.com/docs/api-reference/embeddings."""

import base64
from typing import Any

import msgspec
import numpy as np

from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.errors import ApiError


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body. `user` is accepted and not read."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None


async def embeddings(call: Call, body: EmbeddingsRequest) -> dict[str, Any]:
    """Answer with a vector for each input."""
    if body.encoding_format not in (None, "float", "base64"):
        raise ApiError(
            400,
            f"encoding_format: expected float or base64, got {body.encoding_format!r}.",
            param="encoding_format",
        )
    served = call.find(body.model, "sentence-embedding")
    texts = [body.input] if isinstance(body.input, str) else body.input
    call.check_count(len(texts), "input")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ApiError(400, f"input[{number}]: expected a text.", param=f"input[{number}]")
        if not text:
            raise ApiError(400, f"input[{number}]: expected a text, got an empty one.", param=f"input[{number}]")
    task = served.task("sentence-embedding")
    vectors = await call.answers(served, task, texts, truncate_dim=body.dimensions, **call.long_input(None))
    return {
        "object": "list",
        "model": served.name,
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": call.num_input_tokens, "total_tokens": call.num_input_tokens},
    }


def _encoded(vector: np.ndarray[Any, Any], format: str | None) -> Any:
    """Write a vector (D,) as little-endian float32 in base64, or leave it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if format == "base64" else vector


ROUTES = (
    Route(
        paths=["/v1/embeddings", "/embeddings"],
        body=EmbeddingsRequest,
        handler=embeddings,
        summary="Vectors of texts, as OpenAI gives them.",
    ),
)
