"""Cohere's embed by its clients; types of less precision against sentence-transformers."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import numpy as np
import pytest
from cohere.core.api_error import ApiError
from sentence_transformers.util import quantize_embeddings

from tests.serving.harness import Running

pytestmark = [
    pytest.mark.filterwarnings("ignore::triform.errors.TruncationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:cohere"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
]

TEXTS = ["A cat sat on the mat.", "Ein Hund.", "猫 🐈"]
TYPES: Any = ["float", "int8", "uint8", "binary", "ubinary", "base64"]


@pytest.fixture
def newer(server: Running) -> Iterator[cohere.ClientV2]:
    with cohere.ClientV2(base_url=server.url, api_key="none") as client:
        yield client


@pytest.fixture
def older(server: Running) -> Iterator[cohere.Client]:
    with cohere.Client(base_url=server.url, api_key="none") as client:
        yield client


def vectors(running: Running, model: str = "minilm", **options: Any) -> Any:
    return running.registry.models[model].task("sentence-embedding")(TEXTS, **options)


def test_every_type(server: Running, newer: cohere.ClientV2) -> None:
    answer = newer.embed(model="minilm", input_type="search_document", texts=TEXTS, embedding_types=TYPES)
    expected = vectors(server)
    found = answer.embeddings
    assert answer.response_type == "embeddings_by_type"
    assert answer.texts == TEXTS
    assert np.array_equal(np.array(found.float_, np.float32), expected)
    bound = 4 / expected.shape[1] ** 0.5
    ranges = np.array([[-bound], [bound]]).repeat(expected.shape[1], axis=1)
    for kind in ("int8", "uint8"):
        own = quantize_embeddings(expected, kind, ranges=ranges)
        # sentence-transformers divides in float32, so that a value at the edge of a level may fall to its neighbour.
        difference = np.abs(np.array(getattr(found, kind), int) - own.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001
    for kind in ("binary", "ubinary"):
        assert np.array_equal(np.array(getattr(found, kind)), quantize_embeddings(expected, kind))
    assert found.base64 is not None
    for text, vector in zip(found.base64, expected, strict=True):
        assert base64.b64decode(text) == vector.astype("<f4").tobytes()


def test_int8_keeps_the_order_of_neighbours(server: Running, newer: cohere.ClientV2) -> None:
    """The range is fixed, and most of its levels are used."""
    answer = newer.embed(model="minilm", input_type="search_query", texts=TEXTS, embedding_types=["int8"])
    levels = np.array(answer.embeddings.int8, float) + 0.5
    assert levels.std() > 25
    alone = newer.embed(model="minilm", input_type="search_query", texts=TEXTS[:1], embedding_types=["int8"])
    assert alone.embeddings.int8 == [answer.embeddings.int8[0]] if answer.embeddings.int8 else False
    cosines = levels @ levels.T / np.linalg.norm(levels, axis=1) / np.linalg.norm(levels, axis=1)[:, None]
    exact = vectors(server) @ vectors(server).T
    assert np.abs(cosines - exact).max() < 0.01


def test_version_1(server: Running, older: cohere.Client) -> None:
    plain = older.embed(model="minilm", texts=TEXTS)
    assert plain.response_type == "embeddings_floats"
    assert np.array_equal(np.array(plain.embeddings, np.float32), vectors(server))
    many = older.embed(model="minilm", texts=TEXTS * 50)
    assert np.array_equal(np.array(many.embeddings, np.float32), np.tile(vectors(server), (50, 1)))
    typed = older.embed(model="minilm", texts=TEXTS, embedding_types=["float"])
    assert np.array_equal(np.array(typed.embeddings.float_, np.float32), vectors(server))


def test_async(server: Running) -> None:
    async def ask() -> Any:
        async with cohere.AsyncClientV2(base_url=server.url, api_key="none") as client:
            return await client.embed(
                model="minilm", input_type="clustering", texts=TEXTS, output_dimension=64, embedding_types=["float"]
            )

    answer = asyncio.run(ask())
    assert np.array_equal(np.array(answer.embeddings.float_, np.float32), vectors(server, truncate_dim=64))


def test_parts_of_an_input_are_one_text(server: Running) -> None:
    inputs = [{"content": [{"type": "text", "text": text[:5]}, {"type": "text", "text": text[5:]}]} for text in TEXTS]
    answer = httpx.post(f"{server.url}/v2/embed", json={"inputs": inputs}).json()
    assert np.array_equal(np.array(answer["embeddings"]["float"], np.float32), vectors(server))


def test_the_kind_of_input_chooses_the_prompt(small: Running) -> None:
    body = {"model": "sentences", "texts": ["sat on the mat"], "input_type": "search_query"}
    answer = httpx.post(f"{small.url}/v2/embed", json=body).json()
    task = small.registry.models["sentences"].task("sentence-embedding")
    expected = task(["sat on the mat"], prompt_name="query")
    assert np.array_equal(np.array(answer["embeddings"]["float"], np.float32), expected)
    refused = httpx.post(f"{small.url}/v2/embed", json={**body, "input_type": "clustering"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "input_type"


@pytest.mark.parametrize(("truncate", "side"), [("START", "left"), ("END", "right")])
def test_cuts_are_said(server: Running, truncate: str, side: str) -> None:
    text = "begin " + "word " * 400 + "end"
    answer = httpx.post(f"{server.url}/v2/embed", json={"texts": [text], "truncate": truncate})
    task = server.registry.models["minilm"].task("sentence-embedding")
    expected = task([text], long_input="truncate", truncation_side=side)
    assert np.array_equal(np.array(answer.json()["embeddings"]["float"], np.float32), expected)
    assert answer.headers["x-truncated-tokens"] == "148"
    few = httpx.post(f"{server.url}/v2/embed", json={"texts": [text], "truncate": truncate, "max_tokens": 2})
    assert few.headers["x-truncated-tokens"] == "400"
    short = task(["word end" if side == "left" else "begin word"])
    assert np.array_equal(np.array(few.json()["embeddings"]["float"], np.float32), short)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": [""]}, "texts[0]"),
        ({"texts": ["x"], "inputs": []}, "texts"),
        ({"texts": [3]}, "texts[0]"),
        ({"texts": ["x"], "images": ["data:"]}, "images"),
        ({"inputs": [{"content": "x"}]}, "inputs[0]"),
        ({"inputs": [{"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "inputs[0].content[0]"),
        ({"texts": ["x"], "input_type": "image"}, "input_type"),
        ({"texts": ["x"], "embedding_types": ["float", "int4"]}, "embedding_types[1]"),
        ({"texts": ["x"], "truncate": "MIDDLE"}, "truncate"),
        ({"texts": ["x"], "max_tokens": 0}, "max_tokens"),
        ({"texts": ["x y z"], "max_tokens": 1, "truncate": "NONE"}, "texts[0]"),
        ({"texts": ["x"], "output_dimension": 9999}, "output_dimension"),
        ({"texts": ["x"], "colour": "red"}, "colour"),
    ],
)
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_bad_request_is_named(server: Running, version: str, body: Any, param: str) -> None:
    answer = httpx.post(f"{server.url}/{version}/embed", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["message"] == answer.json()["error"]["message"]


def test_errors_reach_the_client(newer: cohere.ClientV2) -> None:
    with pytest.raises(ApiError, match="sentence-embedding") as caught:
        newer.embed(model="sentiment", input_type="search_query", texts=["x"])
    assert caught.value.status_code == 400
