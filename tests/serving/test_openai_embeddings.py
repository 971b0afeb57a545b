"""OpenAI's embeddings, by the official client and against the pipeline."""

from typing import Any

import httpx
import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from tests.serving.harness import Running

TEXTS = ["A cat sat on the mat.", "Ein Hund.", "猫 🐈"]


@pytest.fixture(scope="module")
def embedder(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_vectors_are_the_pipelines(server: Running, embedder: openai.OpenAI, options: Any) -> None:
    answer = embedder.embeddings.create(model="minilm", input=TEXTS, **options)
    task: Any = server.registry.models["minilm"].task("sentence-embedding")
    assert [each.index for each in answer.data] == [0, 1, 2]
    for each, vector in zip(answer.data, task(TEXTS), strict=True):
        assert np.array_equal(np.array(each.embedding, np.float32), vector)
    assert answer.usage.prompt_tokens == sum(len(text.ids) for text in task.tokenizer.encode(TEXTS))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens


def test_fewer_dimensions_are_cut_and_normalized(server: Running, embedder: openai.OpenAI) -> None:
    answer = embedder.embeddings.create(model="minilm", input=TEXTS, dimensions=64)
    vectors = server.registry.models["minilm"].task("sentence-embedding")(TEXTS)[:, :64]
    for each, vector in zip(answer.data, vectors, strict=True):
        assert len(each.embedding) == 64
        assert np.allclose(each.embedding, vector / np.linalg.norm(vector), atol=1e-6)


def test_langchain_sends_texts_or_is_told_how(server: Running) -> None:
    arguments: Any = {"base_url": f"{server.url}/v1", "api_key": "none", "model": "minilm", "max_retries": 0}
    vectors = OpenAIEmbeddings(check_embedding_ctx_length=False, **arguments).embed_documents(TEXTS)
    expected = server.registry.models["minilm"].task("sentence-embedding")(TEXTS)
    assert np.array_equal(np.array(vectors, np.float32), expected)
    answer = httpx.post(f"{server.url}/v1/embeddings", json={"model": "minilm", "input": [[791, 8415], [3]]})
    assert answer.status_code == 400
    assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "input"),
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": ["a", ""]}, "input[1]"),
    ({"input": [1, 2]}, "input[0]"),
    ({"input": {"text": "a"}}, "input"),
    ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "dimensions": 385}, "dimensions"),
    ({"input": "a", "dimensions": 1.5}, "dimensions"),
    ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ({"input": "a", "pooling": "max"}, "pooling"),
    ({"input": ["a"] * 3000}, "input"),
]


@pytest.mark.parametrize(("body", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_bad_input_is_named(server: Running, embedder: openai.OpenAI, body: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{server.url}/v1/embeddings", json={"model": "minilm", **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert embedder.embeddings.create(model="minilm", input="a").data


def test_long_text_is_refused(embedder: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        embedder.embeddings.create(model="minilm", input="word " * 1000)
    assert caught.value.code == "context_length_exceeded"


def test_model_that_writes_has_no_vectors(embedder: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        embedder.embeddings.create(model="story", input="a")
    assert caught.value.code == "wrong_task"
