"""text-generation-inference and InferenceClient.text_generation, whole and in events, against the pipeline."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import ValidationError

from tests.serving.harness import Running, ServerThread
from triform.serving.models import Registry
from triform.tasks.generative.text_generation import TextGeneration

PROMPT = "Once upon a time, there was a little"
PARAMETERS: Any = {"max_new_tokens": 24, "seed": 3, "temperature": 0.8, "top_k": 20, "repetition_penalty": 1.1}
MESSAGES = [{"role": "user", "content": "A cat?"}]


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client of the Hub reach the loopback."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def pipeline(running: Running, model: str = "story", prompt: Any = PROMPT, **options: Any) -> Any:
    settings = {**PARAMETERS, "do_sample": True, "return_full_text": False, **options}
    [answer] = running.registry.models[model].task("text-generation")(prompt, **settings)
    return answer


def events(running: Running, path: str, body: Any) -> list[dict[str, Any]]:
    with httpx.stream("POST", running.url + path, json=body, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:")]


def test_the_client_whole(server: Running) -> None:
    client = InferenceClient(model=f"{server.url}/models/story")
    expected = pipeline(server)["generated_text"]
    assert client.text_generation(PROMPT, **PARAMETERS) == expected
    assert client.text_generation(PROMPT, return_full_text=True, **PARAMETERS) == PROMPT + expected

    async def ask() -> Any:
        async with AsyncInferenceClient(model=f"{server.url}/models/story") as other:
            return await other.text_generation(PROMPT, **PARAMETERS)

    assert asyncio.run(ask()) == expected


def test_the_client_with_details(server: Running) -> None:
    client = InferenceClient(model=f"{server.url}/models/story")
    answer = client.text_generation(PROMPT, details=True, **PARAMETERS)
    expected = pipeline(server, details=True)
    assert answer.generated_text == expected["generated_text"]
    assert answer.details is not None
    assert answer.details.finish_reason == "length"
    assert (answer.details.generated_tokens, answer.details.seed, answer.details.prefill) == (24, 3, [])
    found = [(token.id, token.text, token.logprob) for token in answer.details.tokens]
    assert found == [(token["id"], token["text"], token["log_probability"]) for token in expected["tokens"]]


@pytest.mark.parametrize("stop", [None, [" the"], ["e"], [PROMPT], [".", " a"]])
def test_the_stream_is_the_whole(server: Running, stop: list[str] | None) -> None:
    client = InferenceClient(model=f"{server.url}/models/story")
    options: Any = {**PARAMETERS, **({} if stop is None else {"stop": stop})}
    expected = pipeline(server, details=True, stop=stop)
    assert "".join(client.text_generation(PROMPT, stream=True, **options)) == expected["generated_text"]
    found = list(client.text_generation(PROMPT, stream=True, details=True, **options))
    assert "".join(each.token.text for each in found) == expected["generated_text"]
    assert [each.index for each in found] == list(range(1, len(found) + 1))
    *first, last = found
    assert all(each.generated_text is None and each.details is None for each in first)
    assert last.generated_text == expected["generated_text"]
    assert last.details is not None
    ended = any(each in expected["tokens"][-1]["text"] or expected["finish_reason"] == "stop" for each in stop or ())
    assert last.details.finish_reason == ("stop_sequence" if ended else "length")
    assert last.details.generated_tokens == len(expected["tokens"])
    assert last.details.seed == 3

    async def ask() -> str:
        async with AsyncInferenceClient(model=f"{server.url}/models/story") as other:
            return "".join([each async for each in await other.text_generation(PROMPT, stream=True, **options)])

    assert asyncio.run(ask()) == expected["generated_text"]


def test_generate(server: Running) -> None:
    body = {"inputs": PROMPT, "parameters": PARAMETERS}
    expected = pipeline(server)["generated_text"]
    assert httpx.post(f"{server.url}/generate", json=body).json() == {"generated_text": expected}
    assert httpx.post(f"{server.url}/models/story", json=body).json() == [{"generated_text": expected}]
    for path, more in (("/generate_stream", {}), ("/generate", {"stream": True})):
        found = events(server, path, {**body, **more})
        assert found[-1]["generated_text"] == expected
        assert "".join(each["token"]["text"] for each in found) == expected
    prompts = [PROMPT, "A dog"]
    answer = httpx.post(f"{server.url}/models/story", json={**body, "inputs": prompts}).json()
    assert answer == [[{"generated_text": pipeline(server, prompt=each)["generated_text"]}] for each in prompts]


def test_prompts_are_cut_at_the_beginning(server: Running) -> None:
    body = {"inputs": "Long ago. " + PROMPT, "parameters": {**PARAMETERS, "truncate": 3}}
    answer = httpx.post(f"{server.url}/generate", json=body)
    tokenizer = server.registry.models["story"].task("text-generation").processor
    [encoded] = tokenizer.encode([body["inputs"]], special_tokens=False)
    kept = str(body["inputs"])[int(encoded.characters[-3, 0]) :]
    assert answer.json()["generated_text"] == pipeline(server, prompt=kept)["generated_text"]
    assert answer.headers["x-truncated-tokens"] == str(len(encoded.ids) - 3)


@pytest.mark.parametrize(
    ("grammar", "options"),
    [
        ({"type": "regex", "value": "(a|b){4} (c|d)"}, {"regex": "(a|b){4} (c|d)"}),
        ({"type": "json", "value": {"enum": ["red", "blue"]}}, {"schema": {"enum": ["red", "blue"]}}),
    ],
)
def test_grammars(server: Running, grammar: Any, options: Any) -> None:
    client = InferenceClient(model=f"{server.url}/models/story")
    expected = pipeline(server, **options)["generated_text"]
    assert client.text_generation(PROMPT, grammar=grammar, **PARAMETERS) == expected
    assert "".join(client.text_generation(PROMPT, grammar=grammar, stream=True, **PARAMETERS)) == expected


def test_conversations(small: Running) -> None:
    parameters = {"max_new_tokens": 6, "seed": 1, "temperature": 0.9}
    task = small.registry.models["chat"].task("text-generation")
    [expected] = task(MESSAGES, do_sample=True, return_full_text=False, **parameters)
    body = {"inputs": MESSAGES, "parameters": parameters}
    assert httpx.post(f"{small.url}/models/chat", json=body).json() == [expected]
    found = events(small, "/models/chat", {**body, "stream": True})
    assert found[-1]["generated_text"] == expected["generated_text"]
    assert "".join(each["token"]["text"] for each in found) == expected["generated_text"]


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 10**9}, "tokens"),
        ({"max_new_tokens": "ten"}, "max_new_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"best_of": 2}, "parameters.best_of"),
        ({"watermark": True}, "parameters.watermark"),
        ({"grammar": {"type": "lark", "value": "x"}}, "parameters.grammar"),
        ({"grammar": {"type": "json", "value": {"not": {}}}}, "not"),
        ({"grammar": {"type": "regex", "value": "("}}, "regex"),
        ({"decoder_input_details": True}, "parameters.decoder_input_details"),
        ({"top_n_tokens": 2}, "parameters.top_n_tokens"),
        ({"adapter_id": "x"}, "parameters.adapter_id"),
        ({"typical_p": 0.5}, "parameters.typical_p"),
        ({"truncate": 0}, "parameters.truncate"),
        ({"truncate": True}, "parameters.truncate"),
        ({"details": "yes"}, "details"),
        ({"stop": [3]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"token_budget": 1}, "parameters.token_budget"),
        ({"generate_kwargs": {"x": 1}}, "generate_kwargs"),
        ({"generate_kwargs": [1], "min_length": 2}, "generate_kwargs"),
        ({"colour": "red"}, "parameters.colour"),
    ],
)
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_a_bad_request_is_named(server: Running, path: str, parameters: Any, names: str) -> None:
    answer = httpx.post(server.url + path, json={"inputs": PROMPT, "parameters": parameters})
    assert answer.status_code == 422, answer.text
    assert names in answer.json()["error"]
    assert answer.json()["error_type"] == "validation"


def test_the_client_raises_its_own_error(server: Running) -> None:
    client = InferenceClient(model=f"{server.url}/models/story")
    with pytest.raises(ValidationError, match="best_of"):
        client.text_generation(PROMPT, best_of=2)
    with pytest.raises(ValidationError, match="stream"):
        client.text_generation([PROMPT, PROMPT], stream=True)


def test_a_stream_is_refused_before_its_prompt_is_tokenized(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admission counts an estimate of the tokens first, so a refused prompt costs no work."""

    def tokenize(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the prompt was tokenized")

    monkeypatch.setattr(TextGeneration, "preprocess", tokenize)
    with ServerThread(lambda: registry, max_queued_tokens=100) as running:
        body = {"model": "story", "inputs": "once " * 1000}
        answer = httpx.post(f"{running.url}/generate_stream", json=body, timeout=30)
    assert answer.status_code == 422
    assert "tokens to read and write" in answer.json()["error"]
