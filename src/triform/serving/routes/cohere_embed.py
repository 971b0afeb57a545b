"""Cohere's embed, versions 1 and 2. https://docs.cohere.com/reference/embed.

Numbers of less precision are those of `quantize_embeddings` in sentence-transformers. `binary` and `ubinary` have a bit
for each number, 1 above 0, the first number in the highest bit; `binary` is `ubinary` minus 128. `uint8` divides the
range from −r to r into 255 steps, and `int8` is `uint8` minus 128. Cohere calibrates the range for its own models. Here
r is 4 / √D for vectors of D numbers and length 1, four times the root of their mean square, so that the numbers of a
text never depend on its neighbours. Vectors that a model does not scale to length 1 are scaled for these types.
"""

import base64
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from triform.serving.call import Call
from triform.serving.endpoint import Route
from triform.serving.errors import ApiError
from triform.serving.models import ServedModel
from triform.serving.texts import cut_text, naming, read_inputs, tokenizer_of
from triform.tasks.sequence_level.sentence_embedding import SentenceEmbedding, Vector

TASK = "sentence-embedding"
TYPES = ("float", "int8", "uint8", "binary", "ubinary", "base64")
INPUT_TYPES = {
    "search_query": ("query", "search_query"),
    "search_document": ("document", "passage", "corpus", "search_document"),
    "classification": ("classification",),
    "clustering": ("clustering",),
}
"""Kind of input → names of the prompts that models bring for it."""
SPREAD = 4.0
"""Half the range of int8, in roots of the mean square of a vector's numbers."""


class EmbedRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of both versions."""

    model: str | None = None
    texts: list[str] | None = None
    inputs: list[dict[str, Any]] | None = None
    images: list[str] | None = None
    input_type: str | None = None
    embedding_types: list[str] | None = None
    output_dimension: int | None = None
    max_tokens: int | None = None
    truncate: str | None = None
    priority: int | None = None


async def embed_v1(call: Call, body: EmbedRequest) -> dict[str, Any]:
    """Answer with a vector for each text, a plain list unless types are named."""
    return await _embed(call, body, "1")


async def embed_v2(call: Call, body: EmbedRequest) -> dict[str, Any]:
    """Answer with a vector for each text in each of the types."""
    return await _embed(call, body, "2")


async def _embed(call: Call, body: EmbedRequest, version: str) -> dict[str, Any]:
    types = ["float"] if body.embedding_types is None else body.embedding_types
    for number, kind in enumerate(types):
        if kind not in TYPES:
            at = f"embedding_types[{number}]"
            raise ApiError(400, f"{at}: expected one of {', '.join(TYPES)}, got {kind!r}.", param=at)
    if body.truncate not in (None, "NONE", "START", "END"):
        raise ApiError(400, f"truncate: expected NONE, START or END, got {body.truncate!r}.", param="truncate")
    texts = _texts(call, body)
    served = call.find(body.model, TASK)
    prompt_name = _prompt_name(served, body.input_type)
    texts_read = await _cut(call, served, texts, body)
    with naming("truncate_dim", "output_dimension"):
        vectors = await call.answers(
            served,
            served.task(TASK),
            texts_read,
            priority=body.priority or 0,
            prompt_name=prompt_name,
            truncate_dim=body.output_dimension,
            truncation_side={"START": "left", "END": "right"}.get(body.truncate or ""),
            **call.long_input(None if body.truncate is None else body.truncate != "NONE"),
        )
    matrix = np.stack(vectors)
    is_plain = version == "1" and body.embedding_types is None
    embeddings = list(matrix) if is_plain else {kind: encoded(matrix, kind) for kind in types}
    return {
        "id": str(uuid.uuid4()),
        "embeddings": embeddings,
        "texts": texts,
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"input_tokens": call.num_input_tokens},
            "tokens": {"input_tokens": call.num_input_tokens},
        },
        "response_type": "embeddings_floats" if is_plain else "embeddings_by_type",
    }


def _texts(call: Call, body: EmbedRequest) -> list[str]:
    if body.images:
        raise ApiError(400, "images: no model here sees. Send texts.", param="images")
    if (body.texts is None) == (body.inputs is None):
        raise ApiError(400, "texts: expected either texts or inputs.", param="texts")
    param = "texts" if body.inputs is None else "inputs"
    texts = (body.texts or []) if body.inputs is None else [_input(*each) for each in enumerate(body.inputs)]
    call.check_count(len(texts), param)
    read_inputs(list(texts), param)
    return texts


def _input(number: int, given: dict[str, Any]) -> str:
    """Read an item of `inputs`: its content is parts, which must be texts."""
    parts = given.get("content")
    if not isinstance(parts, list) or not parts or set(given) != {"content"}:
        at = f"inputs[{number}]"
        raise ApiError(400, f'{at}: expected {{"content": [{{"type": "text", "text": …}}]}}.', param=at)
    texts = []
    for place, part in enumerate(parts):
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            at = f"inputs[{number}].content[{place}]"
            raise ApiError(400, f'{at}: expected {{"type": "text", "text": …}}: no model here sees.', param=at)
        texts.append(text)
    return "".join(texts)


def _prompt_name(served: ServedModel, input_type: str | None) -> str | None:
    """Choose the prompt for a kind of input.

    A model without prompts reads all kinds alike. For queries and documents a missing prompt means that the model reads
    them as they are, as `encode_query` and `encode_document` of sentence-transformers have it.
    """
    if input_type is None:
        return None
    if input_type not in INPUT_TYPES:
        expected = ", ".join(INPUT_TYPES)
        raise ApiError(400, f"input_type: expected one of {expected}, got {input_type!r}.", param="input_type")
    task = served.task(TASK)
    assert isinstance(task, SentenceEmbedding)
    prompts = task.recipe.settings.prompts
    found = next((name for name in INPUT_TYPES[input_type] if name in prompts), None)
    if found is None and prompts and not input_type.startswith("search_"):
        raise ApiError(
            400,
            f"input_type={input_type!r}: model {served.name} has no prompt for it: its prompts are "
            f"{', '.join(prompts)}. Leave input_type out.",
            param="input_type",
        )
    return found


async def _cut(call: Call, served: ServedModel, texts: list[str], body: EmbedRequest) -> list[str]:
    """Cut texts to `max_tokens`, or refuse longer ones, as `truncate` says."""
    most = body.max_tokens
    if most is None:
        return texts
    if most < 1:
        raise ApiError(400, "max_tokens: expected at least 1.", param="max_tokens")
    tokenizer = tokenizer_of(served)
    side: Any = "left" if body.truncate == "START" else "right"
    cut = await call.in_pool(lambda: [cut_text(tokenizer, text, most, side) for text in texts], sum(map(len, texts)))
    cuts = call.cuts(None if body.truncate is None else body.truncate != "NONE")
    for number, (_, dropped) in enumerate(cut):
        if dropped and not cuts:
            at = f"texts[{number}]"
            raise ApiError(400, f"{at}: {most + dropped} tokens are more than max_tokens={most}.", param=at)
    call.count_dropped(sum(dropped for _, dropped in cut))
    return [text for text, _ in cut]


def encoded(vectors: Vector, kind: str) -> Sequence[Any]:
    """Write vectors (N, D) in one of `TYPES`."""
    match kind:
        case "float":
            return list(vectors)
        case "base64":
            return [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        case "ubinary" | "binary":
            bits: NDArray[np.uint8] = np.packbits(vectors > 0, axis=-1)
            return list(bits if kind == "ubinary" else (bits - 128).astype(np.int8))
    levels = quantized(vectors)
    return list(levels if kind == "uint8" else (levels.astype(np.int16) - 128).astype(np.int8))


def quantized(vectors: Vector) -> NDArray[np.uint8]:
    """Write vectors (N, D) in 256 levels, after scaling them to length 1."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    bound = SPREAD / vectors.shape[-1] ** 0.5
    step = 2 * bound / 255
    levels = np.floor((vectors / np.where(lengths == 0, 1, lengths) + bound) / step)
    clipped: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
    return clipped


ROUTES = (
    Route(paths=["/v1/embed"], body=EmbedRequest, handler=embed_v1, summary="Vectors of texts, as Cohere's v1."),
    Route(paths=["/v2/embed"], body=EmbedRequest, handler=embed_v2, summary="Vectors of texts, as Cohere's v2."),
)
