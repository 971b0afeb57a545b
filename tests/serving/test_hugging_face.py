"""Hugging Face's inference: each method of InferenceClient, sync and async, against the pipeline."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.serving.harness import Running

REVIEW = "The room was small, but the staff were wonderful."
PEOPLE = "Marie Curie was born in Warsaw and worked at the University of Paris."
ENGLISH = "My cat is sleeping on the sofa."
QUESTION, CONTEXT = "the cat sat", "the dog sat on the mat by the sea ."


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client of the Hub reach the loopback."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def plain(value: Any) -> Any:
    """Return an answer of a client without the classes of the client and without nulls."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def both(url: str, model: str, ask: Callable[[Any], Any], path: str = "") -> Any:
    """Ask by both clients, whose answers must be equal, and return the answer."""
    where = f"{url}/models/{model}{path}"

    async def answer() -> Any:
        async with AsyncInferenceClient(model=where) as client:
            return await ask(client)

    first, second = ask(InferenceClient(model=where)), asyncio.run(answer())
    if isinstance(first, np.ndarray):
        assert np.array_equal(first, second)
        return first
    assert first == second
    return plain(first)


def expected(running: Running, model: str, task: str, given: Any, **options: Any) -> Any:
    return running.registry.models[model].task(task)(given, **options)


def test_text_classification(server: Running) -> None:
    answer = both(server.url, "sentiment", lambda client: client.text_classification(REVIEW))
    assert answer == expected(server, "sentiment", "text-classification", REVIEW, top_k=None)
    best = both(
        server.url,
        "sentiment",
        lambda client: client.text_classification(REVIEW, top_k=1, function_to_apply="sigmoid"),
    )
    own = expected(server, "sentiment", "text-classification", REVIEW, top_k=1, function_to_apply="sigmoid")
    assert best == own


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification(server: Running, strategy: Any) -> None:
    answer = both(
        server.url,
        "entities",
        lambda client: client.token_classification(PEOPLE, aggregation_strategy=strategy, ignore_labels=[], stride=4),
    )
    options = {"aggregation_strategy": strategy, "ignore_labels": [], "stride": 4}
    assert answer == expected(server, "entities", "token-classification", PEOPLE, **options)


def test_translation(server: Running) -> None:
    answer = both(server.url, "translation", lambda client: client.translation(ENGLISH))
    assert [answer] == expected(server, "translation", "translation", ENGLISH)
    short = both(
        server.url,
        "translation",
        lambda client: client.translation(
            ENGLISH, generate_parameters={"max_new_tokens": 3, "num_beams": 2, "no_repeat_ngram_size": 2}
        ),
    )
    options = {"max_new_tokens": 3, "num_beams": 2, "no_repeat_ngram_size": 2}
    assert [short] == expected(server, "translation", "translation", ENGLISH, **options)


def test_summarization(small: Running) -> None:
    answer = both(
        small.url,
        "t5",
        lambda client: client.summarization("the cat sat", generate_parameters={"max_new_tokens": 4}),
        "/pipeline/summarization",
    )
    assert [answer] == expected(small, "t5", "summarization", "the cat sat", max_new_tokens=4)


@pytest.mark.parametrize("top_k", [1, 3])
def test_question_answering(small: Running, top_k: int) -> None:
    answer = both(
        small.url,
        "spans",
        lambda client: client.question_answering(
            QUESTION, CONTEXT, top_k=top_k, max_answer_len=4, doc_stride=2, max_seq_len=14, align_to_words=False
        ),
    )
    options = {"top_k": top_k, "max_answer_len": 4, "doc_stride": 2, "max_seq_len": 14, "align_to_words": False}
    given = {"question": QUESTION, "context": CONTEXT}
    assert answer == expected(small, "spans", "question-answering", given, **options)


@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot_classification(small: Running, multi_label: bool) -> None:
    labels, template = ["cat", "dog", "sea"], "a {} sat"
    answer = both(
        small.url,
        "nli",
        lambda client: client.zero_shot_classification(
            CONTEXT, labels, multi_label=multi_label, hypothesis_template=template
        ),
    )
    own = expected(
        small,
        "nli",
        "zero-shot-classification",
        CONTEXT,
        candidate_labels=labels,
        multi_label=multi_label,
        hypothesis_template=template,
    )
    assert answer == [
        {"label": label, "score": score} for label, score in zip(own["labels"], own["scores"], strict=True)
    ]


def test_many_labels_of_a_long_text_are_refused_before_they_are_read(small: Running) -> None:
    for labels in (["cat"] * 2000, "cat," * 2000, ["cat"] * 3000):
        body = {"inputs": "the cat " * 20_000, "parameters": {"candidate_labels": labels}}
        begin = time.monotonic()
        answer = httpx.post(f"{small.url}/models/nli", json=body)
        assert time.monotonic() - begin < 10
        assert answer.status_code == 422


def test_older_clients_get_the_older_shape(small: Running) -> None:
    body = {"inputs": CONTEXT, "parameters": {"candidate_labels": ["cat", "dog"]}}
    headers = {"User-Agent": "unknown/None; hf_hub/1.1.9; python/3.11"}
    answer = httpx.post(f"{small.url}/models/nli", json=body, headers=headers).json()
    own = expected(small, "nli", "zero-shot-classification", CONTEXT, candidate_labels=["cat", "dog"])
    assert answer == own


@pytest.mark.parametrize("text", ["the [MASK] sat", "the [MASK] sat on [MASK] ."])
def test_fill_mask(small: Running, text: str) -> None:
    if text.count("[MASK]") == 1:
        answer = both(small.url, "mask", lambda client: client.fill_mask(text, top_k=3))
    else:
        answer = httpx.post(f"{small.url}/models/mask", json={"inputs": text, "parameters": {"top_k": 3}}).json()
    assert answer == expected(small, "mask", "fill-mask", text, top_k=3)
    targets = both(small.url, "mask", lambda client: client.fill_mask("a [MASK]", targets=["cat", "dog"]))
    assert targets == expected(small, "mask", "fill-mask", "a [MASK]", targets=["cat", "dog"])


def test_sentence_similarity(server: Running) -> None:
    sentences = ["A kitten was sitting.", "It rains.", "猫"]
    answer = both(server.url, "minilm", lambda client: client.sentence_similarity("A cat sat.", sentences))
    given = {"source_sentence": "A cat sat.", "sentences": sentences}
    assert answer == expected(server, "minilm", "sentence-similarity", given)


def test_feature_extraction(server: Running, small: Running) -> None:
    answer = both(server.url, "minilm", lambda client: client.feature_extraction("A cat sat."))
    assert np.array_equal(answer, expected(server, "minilm", "sentence-embedding", ["A cat sat."]))
    several = both(
        server.url,
        "minilm",
        lambda client: client.feature_extraction(
            ["A cat.", "猫"], normalize=True, truncate=True, truncation_direction="right"
        ),
    )
    assert np.array_equal(several, expected(server, "minilm", "sentence-embedding", ["A cat.", "猫"]))
    raw = both(small.url, "sentences", lambda client: client.feature_extraction("a cat", normalize=False))
    assert np.array_equal(raw, expected(small, "sentences", "sentence-embedding", ["a cat"], normalize=False))
    pooled = both(small.url, "bare", lambda client: client.feature_extraction("a cat"), "/pipeline/embed")
    assert np.array_equal(pooled, expected(small, "bare", "sentence-embedding", ["a cat"]))
    tokens = both(small.url, "bare", lambda client: client.feature_extraction("the cat sat"))
    assert np.array_equal(tokens, expected(small, "bare", "feature-extraction", "the cat sat"))


def test_a_list_is_answered_row_by_row(server: Running, small: Running) -> None:
    texts = [REVIEW, "It was awful.", "Fine."]
    answer = httpx.post(f"{server.url}/models/sentiment", json={"inputs": texts}).json()
    assert answer == expected(server, "sentiment", "text-classification", texts, top_k=None)
    names = httpx.post(f"{server.url}/models/entities", json={"inputs": [PEOPLE, "Ada."]}).json()
    assert names == expected(server, "entities", "token-classification", [PEOPLE, "Ada."])
    french = httpx.post(f"{server.url}/models/translation", json={"inputs": [ENGLISH, "A dog."]}).json()
    assert french == expected(server, "translation", "translation", [ENGLISH, "A dog."])
    given = [{"question": QUESTION, "context": CONTEXT}] * 2
    spans = httpx.post(f"{small.url}/", json={"inputs": given}).json()
    assert spans == expected(small, "spans", "question-answering", given)


def test_the_task_follows_from_the_path(small: Running) -> None:
    url = f"{small.url}/models/nli/pipeline/text-classification"
    answer = httpx.post(url, json={"inputs": "the cat", "options": {"wait_for_model": True}}).json()
    assert answer == [expected(small, "nli", "text-classification", "the cat", top_k=None)]
    sum = httpx.post(f"{small.url}/pipeline/summarization", json={"inputs": "the cat", "model": "t5"}).json()
    assert sum == expected(small, "t5", "summarization", "the cat")
    pair = {"text": "the cat", "text_pair": "a dog"}
    answer = httpx.post(f"{small.url}/models/nli", json={"inputs": pair}).json()
    assert answer == [expected(small, "nli", "text-classification", pair, top_k=None)]
    plain = httpx.post(f"{small.url}/models/nli", json={"inputs": "the cat"}).json()
    assert plain == [expected(small, "nli", "text-classification", "the cat", top_k=None)]
    ranked = httpx.post(f"{small.url}/", json={"inputs": {"query": "a cat", "documents": ["the dog", "a cat"]}}).json()
    assert ranked == expected(small, "rank", "text-ranking", {"query": "a cat", "documents": ["the dog", "a cat"]})


def test_health_and_info(server: Running) -> None:
    client = InferenceClient(provider="hf-inference", model=f"{server.url}/models/minilm")
    assert client.health_check()
    found = client.get_endpoint_info()
    assert found["model_id"] == "minilm"
    assert found["model_type"] == {"embedding": {"pooling": "mean"}}
    assert found["max_input_length"] == 256
    assert InferenceClient(provider="hf-inference", model=server.url).get_endpoint_info()["models"] == list(
        server.registry.models
    )


@pytest.mark.parametrize(
    ("model", "body", "status", "names"),
    [
        ("sentiment", {"inputs": "x", "parameters": {"topk": 1}}, 422, "parameters.topk"),
        ("sentiment", {"inputs": "x", "parameters": {"top_k": "two"}}, 422, "top_k"),
        ("sentiment", {"inputs": "x", "parameters": {"token_budget": 1}}, 422, "parameters.token_budget"),
        ("sentiment", {"inputs": "x", "parameters": {"function_to_apply": "relu"}}, 422, "function_to_apply"),
        ("sentiment", {"inputs": "x", "options": {"fast": True}}, 422, "options.fast"),
        ("sentiment", {"inputs": "x", "normalize": True}, 422, "cannot do feature-extraction"),
        ("sentiment", {"inputs": "x", "stream": True}, 422, "stream"),
        ("sentiment", {"inputs": 5}, 422, "inputs"),
        ("sentiment", {"inputs": None}, 422, "inputs"),
        ("sentiment", {"inputs": []}, 422, "inputs"),
        ("sentiment", {"inputs": [5]}, 422, "5"),
        ("sentiment", {"parameters": {}}, 422, "inputs"),
        ("sentiment", {"inputs": "x", "parameters": {"candidate_labels": ["x"]}}, 422, "cannot do zero-shot"),
        ("translation", {"inputs": "x", "parameters": {"generate_parameters": {"beams": 2}}}, 422, "parameters.beams"),
        ("translation", {"inputs": "x", "parameters": {"generate_parameters": {"num_beams": 0}}}, 422, "num_beams"),
        ("translation", {"inputs": "x", "parameters": {"generate_kwargs": 3}}, 422, "generate_kwargs"),
        ("translation", {"inputs": "x", "parameters": {"truncation": "all"}}, 422, "parameters.truncation"),
        ("translation", {"inputs": "x", "parameters": {"clean_up_tokenization_spaces": True}}, 422, "clean_up"),
        ("minilm", {"inputs": "x", "dimensions": 1000}, 422, "dimensions"),
        ("minilm", {"inputs": "x", "encoding_format": "base64"}, 422, "encoding_format"),
        ("minilm", {"inputs": "x", "prompt_name": "query"}, 422, "prompt_name"),
        ("minilm", {"inputs": "x", "truncation_direction": "up"}, 422, "truncation_direction"),
        ("minilm", {"inputs": "x", "parameters": {"normalize": 3}}, 422, "parameters.normalize"),
        ("minilm", {"inputs": "word " * 400}, 422, "256"),
        ("nobody", {"inputs": "x"}, 404, "nobody"),
    ],
)
def test_a_bad_request_is_named(server: Running, model: str, body: Any, status: int, names: str) -> None:
    answer = httpx.post(f"{server.url}/models/{model}", json=body)
    assert answer.status_code == status
    assert names in answer.json()["error"]
    assert answer.json()["error_type"] == "validation"


def test_an_unknown_task_is_404(server: Running) -> None:
    answer = httpx.post(f"{server.url}/pipeline/guessing", json={"inputs": "x"})
    assert answer.status_code == 404
    assert "guessing" in answer.json()["error"]


def test_sound_is_refused_with_a_reason(server: Running) -> None:
    client = InferenceClient(model=f"{server.url}/models/sentiment")
    with pytest.raises(HfHubHTTPError) as caught:
        client.automatic_speech_recognition(b"RIFF0000WAVE")
    assert caught.value.response.status_code in (415, 422)
    answer = httpx.post(f"{server.url}/", content=b"RIFF", headers={"Content-Type": "audio/wav"})
    assert answer.status_code == 415
    assert "no model here reads other media" in answer.json()["error"]


def test_cut_input_is_said(server: Running) -> None:
    text = "word " * 400
    answer = httpx.post(f"{server.url}/models/minilm", json={"inputs": text, "truncate": True})
    assert answer.headers["x-truncated-tokens"] == "146"
    assert answer.headers["x-hf-warning"] == "truncation; 146 tokens dropped"
    body = {"inputs": text, "parameters": {"truncation": "longest_first"}}
    assert int(httpx.post(f"{server.url}/models/sentiment", json=body).headers["x-truncated-tokens"]) > 0
