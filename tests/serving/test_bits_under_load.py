"""Answers under load have the bits of the answer to a lone request: all kinds together, with clients that leave.

TRIFORM_LOAD_SECONDS sets how long; by default a few seconds.
"""

import asyncio
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import checkpoints
from tests.serving.harness import Running, ServerThread
from triform.demo import DEMOS
from triform.serving.models import load_all

SECONDS = float(os.environ.get("TRIFORM_LOAD_SECONDS", "6"))
MOST_CLIENTS = 32
CHANGING = {"id", "created", "created_at", "timings", "usage"}
"""Fields that no two answers share; usage tells cached tokens apart."""
WORDS = "the cat sat on a mat while old ships sailed past small towns near green hills under bright stars".split()

Asked = tuple[str, dict[str, Any]]
"""The path and the body of a request."""


@pytest.fixture(scope="module")
def server(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    chat = checkpoints.llama("LlamaForCausalLM", tmp_path_factory.mktemp("chat"), checkpoints.CHAT_TEMPLATE)
    with ServerThread(lambda: load_all([*DEMOS, f"minilm={minilm}", f"chat={chat}"]), max_running=12) as running:
        yield running


def words(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))


def draw(rng: random.Random) -> Asked:
    """Draw a request."""
    sampled = {"seed": rng.randrange(5), "temperature": rng.choice([0.0, 0.8, 1.3])}
    match rng.randrange(7):
        case 0:
            return "/v1/embeddings", {"model": "minilm", "input": [words(rng, 1, 60) for _ in range(rng.randint(1, 5))]}
        case 1:
            prompt = words(rng, 3, 20)
            return "/v1/completions", {"model": "story", "prompt": prompt, "max_tokens": rng.randint(1, 40), **sampled}
        case 2:  # a long prompt, which is read in chunks
            return "/v1/completions", {"model": "story", "prompt": words(rng, 120, 180), "max_tokens": 5, **sampled}
        case 3:
            body = {"model": "chat", "messages": [{"role": "user", "content": words(rng, 1, 12)}], "max_tokens": 20}
            return "/v1/chat/completions", {**body, "n": rng.randint(1, 3), **sampled}
        case 4:
            inputs = [words(rng, 1, 40) for _ in range(rng.randint(1, 4))]
            return "/pipeline/translation", {"model": "translation", "inputs": inputs}
        case 5:
            return "/pipeline/token-classification", {"model": "entities", "inputs": words(rng, 1, 60)}
        case _:
            return "/pipeline/text-classification", {"model": "sentiment", "inputs": words(rng, 1, 60)}


def comparable(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: comparable(value) for name, value in answer.items() if name not in CHANGING}
    return [comparable(each) for each in answer] if isinstance(answer, list) else answer


async def ask(client: httpx.AsyncClient, asked: Asked) -> Any:
    path, body = asked
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return comparable(answer.json())


async def ask_stream(client: httpx.AsyncClient, asked: Asked) -> list[str]:
    """Return the text of each choice of a stream."""
    path, body = asked
    texts: dict[int, str] = {}
    async with client.stream("POST", path, json={**body, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                piece = choice.get("text") or choice.get("delta", {}).get("content") or ""
                texts[choice["index"]] = texts.get(choice["index"], "") + piece
    return [texts[index] for index in sorted(texts)]


def texts_of(answer: Any) -> list[str]:
    return [choice.get("text") or choice.get("message", {}).get("content") or "" for choice in answer["choices"]]


async def under_load(url: str) -> int:
    """Ask many requests alone, then together; return how many answers were compared."""
    rng = random.Random(0)
    pool = [draw(rng) for _ in range(70)]
    compared = 0
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        lone = [await ask(client, asked) for asked in pool]
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS

        async def one() -> None:
            nonlocal compared
            number = rng.randrange(len(pool))
            asked = pool[number]
            streams = "choices" in lone[number] and rng.random() < 0.5
            if rng.random() < 1 / 3:
                task = asyncio.ensure_future(ask_stream(client, asked) if streams else ask(client, asked))
                await asyncio.sleep(rng.random() * 0.2)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return
            if streams:
                assert await ask_stream(client, asked) == texts_of(lone[number])
            else:
                assert await ask(client, asked) == lone[number]
            compared += 1

        async def keep_asking(places: asyncio.Semaphore) -> None:
            while loop.time() < end:
                async with places:
                    await one()

        while loop.time() < end:
            places = asyncio.Semaphore(rng.randint(1, MOST_CLIENTS))
            async with asyncio.TaskGroup() as group:
                for _ in range(MOST_CLIENTS):
                    group.create_task(keep_asking(places))
    return compared


@pytest.mark.slow
def test_no_answer_depends_on_others(server: Running) -> None:
    assert asyncio.run(under_load(server.url)) > 20
    metrics = httpx.get(f"{server.url}/metrics").text
    assert "triform_requests_in_flight 0.0" in metrics
    assert "triform_queued_tokens 0.0" in metrics
    assert "triform_sequences_running 0.0" in metrics
