"""OpenAI's embeddings. https://platform.openai.com/docs/api-reference/embeddings."""

import base64
from typing import Any

import msgspec
import numpy as np

from triform.errors import InputError
from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.errors import ApiError
from triform.serving.routes.generation_fields import wrong


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body. `user` is accepted and not read."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    user: Any = None


async def embeddings(call: Call, body: EmbeddingsRequest) -> dict[str, Any]:
    """Answer with a vector for each input."""
    if body.encoding_format not in (None, "float", "base64"):
        raise wrong("encoding_format", f"expected float or base64, got {body.encoding_format[:60]!r}")
    if body.dimensions is not None and body.dimensions < 1:
        raise wrong("dimensions", f"expected at least 1, got {body.dimensions}")
    served = call.find(body.model, "sentence-embedding")
    texts = _texts(call, body.input)
    task = served.task("sentence-embedding")
    # A part of a vector has another length than 1.
    cut: dict[str, Any] = {} if body.dimensions is None else {"truncate_dim": body.dimensions, "normalize": True}
    try:
        vectors = await call.answers(served, task, texts, **cut, **call.long_input(None))
    except InputError as error:
        if not str(error).startswith("truncate_dim="):
            raise
        message = f"dimensions: {body.dimensions} are more than the numbers of the model's vectors. Ask for fewer."
        raise ApiError(400, message, param="dimensions") from error
    return {
        "object": "list",
        "model": served.name,
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": call.num_input_tokens, "total_tokens": call.num_input_tokens},
    }


def _texts(call: Call, given: str | list[str | int | list[int]]) -> list[str]:
    """Check the inputs. Ids are refused: clients send those of OpenAI's vocabulary, which mean other words here.

    Raises:
        ApiError: naming the input.
    """
    texts = [given] if isinstance(given, str) else given
    call.check_count(len(texts), "input")
    checked = []
    for number, text in enumerate(texts):
        place = "input" if isinstance(given, str) else f"input[{number}]"
        if not isinstance(text, str):
            raise wrong(
                place,
                "expected a text, got ids of tokens, which belong to the vocabulary of another model. Send texts; in "
                "LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False",
            )
        if not text:
            raise wrong(place, "expected a text, got an empty one. Leave it out")
        checked.append(text)
    return checked


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
