"""Rerank: one path, and the form by the body: `texts` is text-embeddings-inference's, `documents` Cohere's and Jina's.

Scores are probabilities: the sigmoid of the model's logit, whatever function the files of the model name.
"""

import uuid
from typing import Any

import msgspec

from triform.serving.call import Call
from triform.serving.endpoint import Form, Route
from triform.serving.errors import ApiError, Dialect
from triform.serving.models import ServedModel
from triform.serving.texts import cut_text, side_of, tokenizer_of
from triform.tasks.sequence_level.text_classification import Function

RANKING = "text-ranking"


class TextsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body in the form of text-embeddings-inference."""

    query: str
    texts: list[str]
    truncate: bool | None = None
    truncation_direction: str | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None
    top_n: int | None = None
    model: str | None = None


async def rerank_texts(call: Call, body: TextsRequest) -> list[dict[str, Any]]:
    """Answer with the index and score of each text, the best first."""
    served = call.find(body.model, RANKING)
    return await _rank(
        call,
        served,
        body.query,
        body.texts,
        "texts",
        top_n=body.top_n,
        return_documents=bool(body.return_text),
        function_to_apply=Function.NONE if body.raw_scores else Function.SIGMOID,
        truncation_side=side_of(body.truncation_direction),
        **call.long_input(body.truncate),
    )


class DocumentsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body in the form of Cohere and Jina."""

    query: str
    documents: list[str | dict[str, Any]]
    model: str | None = None
    top_n: int | None = None
    max_tokens_per_doc: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_chunks_per_doc: int | None = None
    priority: int | None = None


async def rerank_documents(call: Call, body: DocumentsRequest) -> dict[str, Any]:
    """Answer with the index and relevance of each document, the best first."""
    if body.rank_fields not in (None, ["text"]):
        raise ApiError(400, 'rank_fields: expected ["text"], the only field that is read.', param="rank_fields")
    if body.max_chunks_per_doc not in (None, 1):
        raise ApiError(
            400, "max_chunks_per_doc: expected 1: a document is read whole, or cut.", param="max_chunks_per_doc"
        )
    served = call.find(body.model, RANKING)
    given = [_text(number, document) for number, document in enumerate(body.documents)]
    documents = given
    if (most := body.max_tokens_per_doc) is not None:
        if most < 1:
            raise ApiError(400, "max_tokens_per_doc: expected at least 1.", param="max_tokens_per_doc")
        tokenizer = tokenizer_of(served)
        cut = await call.in_pool(lambda: [cut_text(tokenizer, text, most) for text in given], sum(map(len, given)))
        documents = [text for text, _ in cut]
        call.count_dropped(sum(dropped for _, dropped in cut))
    ranked = await _rank(
        call,
        served,
        body.query,
        documents,
        "documents",
        top_n=body.top_n,
        priority=body.priority or 0,
        function_to_apply=Function.SIGMOID,
        **call.long_input(None),
    )
    return {
        "id": str(uuid.uuid4()),
        "model": served.name,
        "results": [
            {
                "index": each["index"],
                "relevance_score": each["score"],
                **({"document": {"text": given[each["index"]]}} if body.return_documents else {}),
            }
            for each in ranked
        ],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        "usage": {"prompt_tokens": call.num_input_tokens, "total_tokens": call.num_input_tokens},
    }


async def _rank(
    call: Call, served: ServedModel, query: str, texts: list[str], param: str, *, top_n: int | None, **options: Any
) -> list[dict[str, Any]]:
    call.check_count(len(texts), param)
    if top_n is not None and top_n < 1:
        raise ApiError(400, f"top_n: expected at least 1, got {top_n}.", param="top_n")
    given = {"query": query, "documents": texts}
    size = len(query) * len(texts) + sum(map(len, texts))
    [answer] = await call.answers(served, served.task(RANKING), [given], size=size, top_k=top_n, **options)
    return [{name: each[name] for name in ("index", "score", "text") if name in each} for each in answer]


def _text(number: int, document: str | dict[str, Any]) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str) or (isinstance(document, dict) and len(document) > 1):
        at = f"documents[{number}]"
        raise ApiError(400, f'{at}: expected a text, or {{"text": …}} with nothing else.', param=at)
    return text


ROUTES = (
    Route(
        paths=["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking"],
        body=TextsRequest,
        handler=rerank_texts,
        dialect=Dialect.EMBEDDINGS,
        forms=(Form(key="documents", body=DocumentsRequest, handler=rerank_documents, dialect=Dialect.OPENAI),),
        summary="Texts or documents in the order in which they answer a query.",
    ),
)
