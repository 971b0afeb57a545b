"""Rerank, in the forms of text-embeddings-inference and of Cohere and Jina, by clients of both."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import pytest
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

from tests.serving.harness import Running

QUERY = "the cat sat on the mat"
DOCUMENTS = ["a dog by the sea", "the cat sat", "a house , a dog .", "the cat sat", "mat"]


@pytest.fixture
def newer(small: Running) -> Iterator[cohere.ClientV2]:
    with cohere.ClientV2(base_url=small.url, api_key="none") as client:
        yield client


@pytest.fixture
def older(small: Running) -> Iterator[cohere.Client]:
    with cohere.Client(base_url=small.url, api_key="none") as client:
        yield client


def pipeline(small: Running, **options: Any) -> Any:
    task = small.registry.models["rank"].task("text-ranking")
    return task({"query": QUERY, "documents": DOCUMENTS}, function_to_apply="sigmoid", **options)


def ranked(answer: Any) -> list[tuple[int, float]]:
    return [(each["index"], each["score"]) for each in answer]


def test_llama_index(small: Running) -> None:
    client = TextEmbeddingInference(base_url=small.url, top_n=3)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
    found = client.postprocess_nodes(nodes, query_bundle=QueryBundle(QUERY))
    expected = pipeline(small)[:3]
    assert [(node.text, node.score) for node in found] == [(DOCUMENTS[i], score) for i, score in ranked(expected)]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking"])
def test_texts(small: Running, path: str) -> None:
    body = {"query": QUERY, "texts": DOCUMENTS}
    answer = httpx.post(small.url + path, json=body).json()
    assert answer == [{"index": index, "score": score} for index, score in ranked(pipeline(small))]
    # Equal documents keep their order.
    places = [each["index"] for each in answer]
    assert places.index(1) + 1 == places.index(3)
    raw = httpx.post(small.url + path, json={**body, "raw_scores": True, "return_text": True, "top_n": 2}).json()
    task = small.registry.models["rank"].task("text-ranking")
    given = {"query": QUERY, "documents": DOCUMENTS}
    assert raw == task(given, function_to_apply="none", return_documents=True, top_k=2)


def test_cohere(small: Running, newer: cohere.ClientV2, older: cohere.Client) -> None:
    expected = ranked(pipeline(small))

    def pairs(answer: Any) -> list[tuple[int, float]]:
        return [(each.index, each.relevance_score) for each in answer.results]

    assert pairs(newer.rerank(model="rank", query=QUERY, documents=DOCUMENTS)) == expected
    assert pairs(newer.rerank(model="rank", query=QUERY, documents=DOCUMENTS, top_n=99)) == expected
    assert pairs(newer.rerank(model="rank", query=QUERY, documents=DOCUMENTS, top_n=2)) == expected[:2]
    answer = older.rerank(
        model="rank",
        query=QUERY,
        documents=[{"text": text} for text in DOCUMENTS],
        return_documents=True,
        rank_fields=["text"],
    )
    assert pairs(answer) == expected
    assert [each.document.text for each in answer.results if each.document] == [DOCUMENTS[i] for i, _ in expected]

    async def ask() -> Any:
        async with cohere.AsyncClientV2(base_url=small.url, api_key="none") as client:
            return await client.rerank(model="rank", query=QUERY, documents=DOCUMENTS)

    assert pairs(asyncio.run(ask())) == expected


def test_documents_are_cut_and_said(small: Running) -> None:
    body = {"query": "a cat", "documents": ["the cat sat on the mat", "a dog"], "max_tokens_per_doc": 3}
    answer = httpx.post(f"{small.url}/v2/rerank", json=body)
    assert answer.headers["x-truncated-tokens"] == "3"
    task = small.registry.models["rank"].task("text-ranking")
    cut = task({"query": "a cat", "documents": ["the cat sat", "a dog"]}, function_to_apply="sigmoid")
    assert [(each["index"], each["relevance_score"]) for each in answer.json()["results"]] == ranked(cut)
    long = {"query": "a cat", "texts": ["the cat " * 60]}
    refused = httpx.post(f"{small.url}/rerank", json=long)
    assert refused.status_code == 422
    assert refused.json()["error_type"] == "Validation"
    answer = httpx.post(f"{small.url}/rerank", json={**long, "truncate": True})
    assert answer.status_code == 200
    assert int(answer.headers["x-truncated-tokens"]) > 0


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"query": "x", "documents": []}, 400, "documents"),
        ({"query": "x", "documents": [3]}, 400, "documents[0]"),
        ({"query": "x", "documents": ["y", {"title": "z"}]}, 400, "documents[1]"),
        ({"query": "x", "documents": ["y"], "top_n": 0}, 400, "top_n"),
        ({"query": "x", "documents": ["y"], "max_tokens_per_doc": 0}, 400, "max_tokens_per_doc"),
        ({"query": "x", "documents": ["y"], "rank_fields": ["title"]}, 400, "rank_fields"),
        ({"query": "x", "documents": ["y"], "relevant_spans": {}}, 400, "relevant_spans"),
        ({"documents": ["y"]}, 400, "query"),
        ({"query": "x", "documents": ["y"], "model": "nobody"}, 404, "model"),
        ({"query": "x", "documents": ["y"], "model": "nli"}, 400, "model"),
        ({"query": "x", "documents": ["y"] * 2049}, 400, "documents"),
        ({"query": "the cat " * 20_000, "documents": ["y"] * 2000}, 400, None),
    ],
)
def test_a_bad_request_is_named(small: Running, body: Any, status: int, param: str | None) -> None:
    begin = time.monotonic()
    answer = httpx.post(f"{small.url}/v1/rerank", json=body)
    assert time.monotonic() - begin < 10
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param
    assert answer.json()["message"]
