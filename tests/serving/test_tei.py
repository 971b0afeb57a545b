"""Routes of text-embeddings-inference: by LlamaIndex's client and by plain requests, against the pipeline."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from tests.serving.harness import Running
from triform.tasks.text_task import TextTask

pytestmark = pytest.mark.filterwarnings("ignore::triform.errors.TruncationWarning")

TEXTS = ["A cat sat on the mat.", "Ein Hund.", "猫 🐈"]
LONG = "word " * 400


def post(running: Running, path: str, body: Any) -> Any:
    answer = httpx.post(running.url + path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def task(running: Running, model: str, name: str) -> Any:
    found = running.registry.models[model].task(name)
    assert isinstance(found, TextTask)
    return found


def test_llama_index(server: Running) -> None:
    client = TextEmbeddingsInference(model_name="minilm", base_url=server.url, timeout=60)
    expected = task(server, "minilm", "sentence-embedding")(TEXTS)
    assert np.array_equal(np.array(client.get_text_embedding_batch(TEXTS), np.float32), expected)
    assert np.array_equal(np.array(client.get_query_embedding(TEXTS[0]), np.float32), expected[0])
    found = asyncio.run(client.aget_text_embedding_batch(TEXTS))
    assert np.array_equal(np.array(found, np.float32), expected)
    # This client asks for a cut, and looks neither at the status nor at headers.
    [long] = client.get_text_embedding_batch([LONG])
    cut = task(server, "minilm", "sentence-embedding")([LONG], long_input="truncate")
    assert np.array_equal(np.array(long, np.float32), cut[0])


@pytest.mark.parametrize("model", ["sentences", "bare"])
@pytest.mark.parametrize("normalize", [None, True, False])
def test_embed(small: Running, model: str, normalize: bool | None) -> None:
    embed = task(small, model, "sentence-embedding")
    wanted = normalize is not False
    answer = post(small, "/embed", {"model": model, "inputs": "the cat sat", "normalize": normalize})
    assert np.array_equal(np.array(answer, np.float32), embed(["the cat sat"], normalize=wanted))
    answer = post(
        small, "/embed", {"model": model, "inputs": ["a cat", "the sea"], "dimensions": 3, "normalize": wanted}
    )
    expected = embed(["a cat", "the sea"], normalize=wanted, truncate_dim=3)
    assert np.array_equal(np.array(answer, np.float32), expected)


def test_ids_are_used_as_they_are(server: Running) -> None:
    embed = task(server, "minilm", "sentence-embedding")
    ids = [text.ids.tolist() for text in embed.tokenizer.encode(TEXTS)]
    expected = embed(TEXTS)
    assert np.array_equal(np.array(post(server, "/embed", {"inputs": ids}), np.float32), expected)
    assert np.array_equal(np.array(post(server, "/embed", {"inputs": ids[0]}), np.float32), expected[:1])


@pytest.mark.parametrize("direction", ["left", "Left", "right", "Right"])
def test_the_end_that_is_cut(server: Running, direction: str) -> None:
    embed = task(server, "minilm", "sentence-embedding")
    text = "begin " + LONG + "end"
    body = {"inputs": text, "truncate": True, "truncation_direction": direction}
    answer = httpx.post(f"{server.url}/embed", json=body)
    expected = embed([text], long_input="truncate", truncation_side=direction.lower())
    assert np.array_equal(np.array(answer.json(), np.float32), expected)
    assert answer.headers["x-truncated-tokens"] == "148"
    assert answer.headers["x-hf-warning"] == "truncation; 148 tokens dropped"
    [ids] = embed.tokenizer.encode([text])
    cut = httpx.post(f"{server.url}/embed", json={**body, "inputs": ids.ids.tolist()})
    assert cut.headers["x-truncated-tokens"] == "148"


def test_prompts(small: Running) -> None:
    embed = task(small, "sentences", "sentence-embedding")
    body = {"model": "sentences", "inputs": "sat on the mat", "prompt_name": "query", "normalize": False}
    answer = post(small, "/embed", body)
    expected = embed(["sat on the mat"], prompt_name="query", normalize=False)
    assert np.array_equal(np.array(answer, np.float32), expected)


def test_embed_all(server: Running, small: Running) -> None:
    features = task(server, "minilm", "feature-extraction")
    answer = post(server, "/embed_all", {"inputs": TEXTS})
    assert len(answer) == len(TEXTS)
    for found, expected in zip(answer, features(TEXTS), strict=True):
        assert np.array_equal(np.array(found, np.float32), expected)
    [cut] = post(server, "/embed_all", {"inputs": LONG, "truncate": True})
    assert len(cut) == 256
    [bare] = post(small, "/embed_all", {"inputs": "the cat", "model": "bare"})
    assert np.array_equal(np.array(bare, np.float32), task(small, "bare", "feature-extraction")("the cat"))


def test_similarity(server: Running) -> None:
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    answer = post(server, "/similarity", {"inputs": inputs, "parameters": {"truncate": True}})
    assert answer == task(server, "minilm", "sentence-similarity")(inputs)


def scores(answers: Any) -> Any:
    return [[(each["label"], each["score"]) for each in answer] for answer in answers]


def test_predict(small: Running, server: Running) -> None:
    classify = task(small, "nli", "text-classification")
    pair = {"text": "a cat", "text_pair": "the dog"}
    one = post(small, "/predict", {"inputs": "a cat", "model": "nli"})
    assert scores([one]) == scores(classify(["a cat"], top_k=None))
    lone = post(small, "/predict", {"inputs": ["a cat", "the dog"], "model": "nli"})
    assert scores([lone]) == scores(classify([pair], top_k=None))
    batch = post(small, "/predict", {"inputs": [["a cat"], ["a cat", "the dog"]], "model": "nli", "raw_scores": True})
    assert scores(batch) == scores(classify(["a cat", pair], top_k=None, function_to_apply="none"))
    ranked = post(small, "/predict", {"inputs": "a cat", "model": "rank"})
    own = task(small, "rank", "text-classification")(["a cat"], top_k=None, function_to_apply="sigmoid")
    assert scores([ranked]) == scores(own)
    assert len(post(server, "/predict", {"inputs": "Fine."})) == 3


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "names"),
    [
        ("/embed", {"inputs": LONG}, 422, "Validation", "256"),
        ("/embed", {"inputs": LONG, "truncate": False}, 422, "Validation", "256"),
        ("/embed", {"inputs": []}, 400, "Empty", "inputs"),
        ("/embed", {"inputs": ""}, 422, "Validation", "inputs"),
        ("/embed", {"inputs": ["x", ""]}, 422, "Validation", "inputs[1]"),
        ("/embed", {"inputs": [1, "x"]}, 422, "Validation", "inputs"),
        ("/embed", {"inputs": [[1], "x"]}, 422, "Validation", "inputs"),
        ("/embed", {"inputs": [-1]}, 422, "Validation", "inputs[0]"),
        ("/embed", {"inputs": [10**30]}, 422, "Validation", "inputs[0]"),
        ("/embed", {"inputs": [[5, 999_999]]}, 422, "Validation", "999999"),
        ("/embed", {"inputs": [5], "prompt_name": "query"}, 422, "Validation", "prompt_name"),
        ("/embed", {"inputs": "x", "prompt_name": "nobody"}, 422, "Validation", "prompt_name"),
        ("/embed", {"inputs": "x", "truncation_direction": "up"}, 422, "Validation", "truncation_direction"),
        ("/embed", {"inputs": "x", "dimensions": 0}, 422, "Validation", "dimensions"),
        ("/embed", {"inputs": "x", "model": "sentiment"}, 424, "Backend", "sentence-embedding"),
        ("/embed", {"inputs": "x", "model": "nobody"}, 404, "Validation", "nobody"),
        ("/embed_all", {"inputs": "x", "prompt_name": "nobody"}, 422, "Validation", "prompt_name"),
        ("/embed_all", {"inputs": LONG}, 422, "Validation", "256"),
        ("/embed_sparse", {"inputs": "x", "model": "minilm"}, 424, "Backend", "sparse"),
        ("/predict", {"inputs": ["a", "b", "c"], "model": "sentiment"}, 422, "Validation", "inputs"),
        ("/predict", {"inputs": [["a"], []], "model": "sentiment"}, 422, "Validation", "inputs[1]"),
        ("/predict", {"inputs": "x", "model": "minilm"}, 424, "Backend", "text-classification"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": []}}, 400, "Empty", "inputs.sentences"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": [3]}}, 422, "Validation", "sentences"),
        ("/rerank", {"query": "x", "texts": ["y"]}, 424, "Backend", "text-ranking"),
        ("/decode", {"ids": [], "model": "minilm"}, 400, "Empty", "ids"),
        ("/decode", {"ids": [-1], "model": "minilm"}, 422, "Validation", "ids[0]"),
        ("/tokenize", {"inputs": [], "model": "minilm"}, 400, "Empty", "inputs"),
    ],
)
def test_a_bad_request_is_named(server: Running, path: str, body: Any, status: int, kind: str, names: str) -> None:
    answer = httpx.post(server.url + path, json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)
    assert names in answer.json()["error"]
