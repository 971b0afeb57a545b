"""Chat completions by the official client, against the pipeline, and with bad input."""

import asyncio
from typing import Any

import httpx
import openai
import pytest
from huggingface_hub import InferenceClient
from langchain_openai import ChatOpenAI

from tests.serving.conftest import Script, Scripts
from tests.serving.harness import Running

MODEL = "org/chat"
MESSAGES: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello 猫!"}]
SAMPLED: dict[str, Any] = {"temperature": 1.2, "seed": 3, "max_tokens": 24}


def pipeline(server: Running, **options: Any) -> Any:
    """Answer `MESSAGES` by the pipeline."""
    task: Any = server.registry.models[MODEL].task("text-generation")
    return task(MESSAGES, return_full_text=False, **options)


def test_greedy_answer_is_the_pipelines(chat_server: Running, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0, max_tokens=20)
    [expected] = pipeline(chat_server, max_new_tokens=20)
    assert answer.choices[0].message.content == expected["generated_text"]
    assert answer.choices[0].message.role == "assistant"
    assert answer.object == "chat.completion"
    assert answer.system_fingerprint == chat_server.registry.models[MODEL].fingerprint


def test_sampled_answers_are_the_pipelines(chat_server: Running, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, n=3, top_p=0.9, **SAMPLED)
    expected = pipeline(
        chat_server,
        num_return_sequences=3,
        do_sample=True,
        temperature=1.2,
        top_p=0.9,
        seed=3,
        max_new_tokens=24,
        details=True,
    )
    assert [choice.message.content for choice in answer.choices] == [each["generated_text"] for each in expected]
    assert [choice.finish_reason for choice in answer.choices] == [each["finish_reason"] for each in expected]
    assert answer.usage.completion_tokens == sum(len(each["tokens"]) for each in expected)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("n", [1, 3])
def test_stream_is_the_whole_answer(client: openai.OpenAI, n: int) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, n=n, stop="e", **SAMPLED)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            n=n,
            stop=["e"],
            stream=True,
            stream_options={"include_usage": True},
            **SAMPLED,
        )
    )
    *chunks, last = chunks
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert {chunk.id for chunk in chunks} == {last.id}
    assert all(chunk.usage is None for chunk in chunks)
    for index in range(n):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert own[0].delta.content == ""
        pieces = [each.delta.content for each in own[1:-1]]
        assert all(pieces)
        assert "".join(pieces) == whole.choices[index].message.content
        assert "e" not in "".join(pieces)
        assert [each.finish_reason for each in own] == [None] * (len(own) - 1) + [whole.choices[index].finish_reason]


@pytest.mark.slow
def test_streams_of_random_texts_equal_the_whole_answers(chat_server: Running, scripts: Scripts) -> None:
    """Emoji, joined emoji, Chinese and stop strings that lie across tokens, in 200 texts, 16 requests at once."""
    stops = ["STOP", "END\n", "👩‍👩‍👧a", "é "]

    async def check(client: openai.AsyncOpenAI, text: str, script: Script, slots: asyncio.Semaphore) -> None:
        request: Any = {
            "model": script.model,
            "messages": [{"role": "user", "content": script.prompt}],
            "max_tokens": 200,
            "stop": stops,
            "logprobs": True,
        }
        async with slots:
            whole = (await client.chat.completions.create(**request)).choices[0]
            stream: Any = await client.chat.completions.create(stream=True, **request)
            chunks = [chunk.choices[0] async for chunk in stream]
        expected = min((text.partition(stop)[0] for stop in stops), key=len)
        assert whole.message.content == expected
        assert whole.finish_reason == "stop"
        assert "".join(token.token for token in whole.logprobs.content) == expected
        pieces = [chunk.delta.content or "" for chunk in chunks]
        assert "".join(pieces) == expected
        assert all(pieces[1:-1])
        assert not any("\ufffd" in piece for piece in pieces)
        tokens = [token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content]
        assert tokens == whole.logprobs.content

    async def check_all() -> None:
        slots = asyncio.Semaphore(16)
        async with openai.AsyncOpenAI(base_url=f"{chat_server.url}/v1", api_key="none", max_retries=0) as client:
            await asyncio.gather(*(check(client, *pair, slots) for pair in scripts.items()))

    asyncio.run(check_all())


def test_log_probabilities_are_the_pipelines(chat_server: Running, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=12, logprobs=True, top_logprobs=3
    )
    [expected] = pipeline(chat_server, max_new_tokens=12, details=True)
    tokens = answer.choices[0].logprobs.content
    assert [token.logprob for token in tokens] == [each["log_probability"] for each in expected["tokens"]]
    assert b"".join(bytes(token.bytes or ()) for token in tokens).decode(errors="replace") == expected["generated_text"]
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == token.logprob
        assert token.top_logprobs[0].bytes == token.bytes
        values = [each.logprob for each in token.top_logprobs]
        assert values == sorted(values, reverse=True)


def test_stream_helper(client: openai.OpenAI, scripts: Scripts) -> None:
    text, script = next(iter(scripts.items()))
    messages: Any = [{"role": "user", "content": script.prompt}]
    with client.chat.completions.stream(model=script.model, messages=messages) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        assert stream.get_final_completion().choices[0].message.content == text
    assert "".join(deltas) == text
    with client.chat.completions.stream(model=script.model, messages=messages, max_tokens=1) as stream:
        for _ in stream:
            pass
        with pytest.raises(openai.LengthFinishReasonError):
            stream.get_final_completion()


def test_async_client(chat_server: Running, client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, **SAMPLED)

    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{chat_server.url}/v1", api_key="none", max_retries=0) as own:
            calls = [own.chat.completions.create(model=MODEL, messages=MESSAGES, **SAMPLED) for _ in range(8)]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == [whole.choices[0].message.content] * 8


def test_langchain(chat_server: Running, client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, **SAMPLED)
    chat = ChatOpenAI(base_url=f"{chat_server.url}/v1", api_key="none", model=MODEL, max_retries=0, **SAMPLED)
    pairs = [(each["role"], each["content"]) for each in MESSAGES]
    assert chat.invoke(pairs).content == whole.choices[0].message.content
    assert "".join(piece.content for piece in chat.stream(pairs)) == whole.choices[0].message.content


def test_limits(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_completion_tokens=30,
        temperature=0,
        extra_body={"ignore_eos": True, "min_tokens": 30, "cache_prompt": True, "priority": 1, "stop": None},
    )
    assert answer.usage.completion_tokens == 30
    assert answer.choices[0].finish_reason == "length"
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body={"ignore_eos": True})
    assert whole.usage.total_tokens in (128, 129)
    assert whole.choices[0].finish_reason == "length"


def test_biases_and_penalties_are_the_pipelines(chat_server: Running, client: openai.OpenAI) -> None:
    task: Any = chat_server.registry.models[MODEL].task("text-generation")
    [text] = task.tokenizer.encode(["a"], special_tokens=False)
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=5, logit_bias={str(text.ids[0]): 100}
    )
    assert answer.choices[0].message.content == "aaaaa"
    settings = {"presence_penalty": 1.5, "frequency_penalty": -0.5}
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, **SAMPLED, **settings)
    options = {"do_sample": True, "temperature": 1.2, "seed": 3, "max_new_tokens": 24, "generate_kwargs": settings}
    [expected] = pipeline(chat_server, **options)
    assert answer.choices[0].message.content == expected["generated_text"]


def test_without_temperature_the_checkpoint_decides(chat_server: Running, client: openai.OpenAI) -> None:
    """`org/chat` is greedy by its files, and `story` draws."""
    answers = [client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=9, top_p=1) for _ in range(2)]
    [expected] = pipeline(chat_server, max_new_tokens=9)
    assert [answer.choices[0].message.content for answer in answers] == [expected["generated_text"]] * 2
    texts = {client.completions.create(model="story", prompt="Once").choices[0].text for _ in range(8)}
    assert len(texts) > 1


def test_greedy_answers_are_alike(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0, n=2, max_tokens=8)
    assert answer.choices[0].message.content == answer.choices[1].message.content
    one = client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0, max_tokens=8)
    assert answer.usage.prompt_tokens == one.usage.prompt_tokens
    assert answer.usage.completion_tokens == 2 * one.usage.completion_tokens


def test_last_message_goes_on(chat_server: Running, client: openai.OpenAI) -> None:
    messages: Any = [*MESSAGES, {"role": "assistant", "content": "Once"}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=messages,
        temperature=0,
        max_tokens=8,
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )
    task: Any = chat_server.registry.models[MODEL].task("text-generation")
    [expected] = task(messages, max_new_tokens=8, return_full_text=False)
    assert answer.choices[0].message.content == expected["generated_text"]


def test_parts_and_developers(client: openai.OpenAI) -> None:
    parts: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
        {"role": "user", "content": [{"type": "text", "text": "Hello 猫!"}]},
    ]
    answers = [
        client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=8)
        for messages in (MESSAGES, parts)
    ]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content
    assert answers[0].usage.prompt_tokens == answers[1].usage.prompt_tokens


USER = [{"role": "user", "content": "Hi"}]
WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "king", "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [*USER, {"role": "user", "content": [{"type": "image_url"}]}]}, "messages[1].content[0].type"),
    ({"messages": [{"role": "user", "content": "Hi", "mood": 1}]}, "messages[0].mood"),
    ({"messages": USER, "colour": "red"}, "colour"),
    ({"messages": USER, "temperature": -1}, "temperature"),
    ({"messages": USER, "temperature": "hot"}, "temperature"),
    ({"messages": USER, "top_p": 0}, "top_p"),
    ({"messages": USER, "top_p": 1.5}, "top_p"),
    ({"messages": USER, "min_p": 2}, "min_p"),
    ({"messages": USER, "repetition_penalty": 0}, "repetition_penalty"),
    ({"messages": USER, "n": 0}, "n"),
    ({"messages": USER, "n": 10**30}, None),
    ({"messages": USER, "seed": -1}, "seed"),
    ({"messages": USER, "stop": [""]}, "stop[0]"),
    ({"messages": USER, "stop": ["x"] * 100}, "stop"),
    ({"messages": USER, "stop": "x" * 100_000}, "stop"),
    ({"messages": USER, "max_tokens": 0}, "max_tokens"),
    ({"messages": USER, "max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
    ({"messages": USER, "max_tokens": 100_000}, "max_tokens"),
    ({"messages": USER, "min_tokens": 9, "max_tokens": 3}, "min_tokens"),
    ({"messages": USER, "logit_bias": {"99999": 1}}, "logit_bias"),
    ({"messages": USER, "logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"messages": USER, "top_logprobs": 3}, "top_logprobs"),
    ({"messages": USER, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"messages": USER, "presence_penalty": 3}, "presence_penalty"),
    ({"messages": USER, "stream_options": {"include_usage": True}}, "stream_options"),
    ({"messages": USER, "stream_options": {"speed": 1}, "stream": True}, "stream_options.speed"),
    ({"messages": USER, "reasoning_effort": "high"}, "reasoning_effort"),
    ({"messages": USER, "modalities": ["audio"]}, "modalities"),
    ({"messages": USER, "chat_template_kwargs": {"messages": []}}, "messages"),
    ({"messages": USER, "stop_token_ids": [-1]}, "stop_token_ids"),
    ({"messages": [{"role": "user", "content": "word " * 500}]}, None),
]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("body", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_bad_input_is_named(chat_server: Running, body: dict[str, Any], param: str | None, streams: bool) -> None:
    stream = {"stream": True} if streams and param != "stream_options" else {}
    answer = httpx.post(f"{chat_server.url}/v1/chat/completions", json={"model": MODEL, **body, **stream})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert error["param"] == param
        assert param in error["message"] or param.partition("[")[0] in error["message"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"[]", {}, 400),
        (b"{", {}, 400),
        (b'{"messages": NaN}', {}, 400),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', {}, 400),
        (b'{"model": "org/chat", "messages": [{"role": "user", "content": "\\ud800"}]}', {}, 400),
        (b'{"messages": ' + b"[" * 100_000, {}, 400),
        (
            b'{"model": "org/chat", "messages": [{"role": "user", "content": ' + b"[" * 900 + b"]" * 900 + b"}]}",
            {},
            400,
        ),
        (b'{"model": "org/chat", "metadata": ' + b'{"a":' * 150 + b"1" + b"}" * 150 + b', "messages": []}', {}, 400),
        (b'{"messages": []}', {"content-type": "text/plain"}, 415),
        (b'{"temperature": 1e999}', {}, 400),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_bodies_are_refused(
    chat_server: Running, client: openai.OpenAI, content: bytes, headers: dict[str, str], status: int
) -> None:
    headers = {"content-type": "application/json", **headers}
    answer = httpx.post(f"{chat_server.url}/v1/chat/completions", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1).choices


def running(server: Running) -> float:
    """Count the sequences that generate, by the metrics."""
    [line] = [
        line
        for line in httpx.get(f"{server.url}/metrics").text.splitlines()
        if line.startswith("triform_sequences_running ")
    ]
    return float(line.split()[1])


@pytest.mark.parametrize("streams", [False, True])
def test_generation_ends_with_its_client(chat_server: Running, streams: bool) -> None:
    body = {
        "model": "tools",
        "messages": MESSAGES,
        "max_tokens": 400,
        "n": 40,
        "temperature": 1,
        "ignore_eos": True,
        "stream": streams,
    }

    async def leave() -> None:
        url = f"{chat_server.url}/v1/chat/completions"
        async with httpx.AsyncClient() as client, asyncio.timeout(60):
            asking = asyncio.ensure_future(client.post(url, json=body, timeout=60))
            while not await asyncio.to_thread(running, chat_server):
                assert not asking.done()
            asking.cancel()
        async with asyncio.timeout(60):
            while await asyncio.to_thread(running, chat_server):
                await asyncio.sleep(0.02)

    asyncio.run(leave())


def test_client_of_hugging_face(chat_server: Running, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # it would refuse the loopback too
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, **SAMPLED)
    inference = InferenceClient(model=f"{chat_server.url}/models/{MODEL}")
    answer = inference.chat_completion(MESSAGES, **SAMPLED)
    assert answer.choices[0].message.content == whole.choices[0].message.content
    pieces = [chunk.choices[0].delta.content for chunk in inference.chat_completion(MESSAGES, stream=True, **SAMPLED)]
    assert "".join(piece or "" for piece in pieces) == whole.choices[0].message.content


def test_context_is_named(chat_server: Running) -> None:
    body = {"model": MODEL, "messages": USER, "max_tokens": 1000}
    error = httpx.post(f"{chat_server.url}/v1/chat/completions", json=body).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["n_ctx"] == 128
    assert error["n_prompt_tokens"] < 128


def test_model_without_template(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="chat template"):
        client.chat.completions.create(model="story", messages=MESSAGES)


def test_model_in_the_path(chat_server: Running, client: openai.OpenAI) -> None:
    body = {"model": "dummy", "messages": MESSAGES, "max_tokens": 5, "temperature": 0}
    url = f"{chat_server.url}/models/{MODEL}/v1/chat/completions"
    answer = httpx.post(url, json=body).json()
    assert answer["model"] == MODEL
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=0, max_tokens=5)
    assert answer["choices"][0]["message"]["content"] == whole.choices[0].message.content
