"""Streams of the server: tokens a second for several clients, and the time between tokens when a long prompt joins.

The model has the shape of Llama with 0.25 billion random weights; prompts are ids. "join" is one stream beside which a
prompt of 2,000 tokens is read: the 99th percentile of the time between tokens is given as a multiple of the median of a
stream that runs alone. "pipeline" is the same work by `Model.generate` in one batch, without a server.

    python -m benchmarks.serving_streams [--only one …] [--pairs N] [--quick] [--keep]
"""

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

import triform
from benchmarks import servers
from benchmarks.cases import run_cases
from benchmarks.checkpoints import Workspace
from benchmarks.http_client import Connection
from benchmarks.measure import OURS, Comparison, compare
from benchmarks.report import Arguments
from benchmarks.workload import random_texts

PATH = "/v1/completions"
CLIENTS = {"one": 1, "eight": 8, "thirty-two": 32}
JOIN = "join"
FORMAT = "int8"
NUM_TOKENS = 48
PROMPT = 32
LONG_PROMPT = 2000
VOCAB_SIZE = 32_000


def model_folder(place: Workspace) -> Path:
    """Make a checkpoint with a longer context and a word for each id, so that each token is an event."""
    source = place.checkpoint("llama-0.25b")
    folder = source.with_name("llama-0.25b-served")
    if not folder.exists():
        folder.mkdir()
        config = json.loads((source / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
        (folder / "model.safetensors").symlink_to(source / "model.safetensors")
        words = {f"w{number}": number for number in range(config["vocab_size"])}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def body(prompt: Sequence[int], num_tokens: int) -> bytes:
    """Make the request for a greedy stream."""
    fields: dict[str, Any] = {"prompt": prompt, "max_tokens": num_tokens, "temperature": 0, "ignore_eos": True}
    return json.dumps({"model": "model", **fields, "stream": True}).encode()


async def stream(url: str, prompt: Sequence[int], num_tokens: int) -> list[float]:
    """Run a stream; return when each event came."""
    connection = Connection(url)
    await connection.open()
    status, content, times = await connection.post(PATH, body(prompt, num_tokens))
    connection.close()
    if status != 200:
        raise SystemExit(f"{PATH} was answered with {status}: {content[:300]!r}")
    return times


def run_streams(url: str, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
    """Run a stream for each prompt at once; return the seconds."""

    async def run() -> None:
        await asyncio.gather(*(stream(url, prompt, num_tokens) for prompt in prompts))

    begin = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - begin


def run_join(url: str, round_number: int, num_tokens: int) -> tuple[float, float]:
    """Run a stream alone, and one beside which a long prompt joins.

    Returns:
        The median of the first and the 99th percentile of the second, in milliseconds between events.
    """
    short = random_texts([PROMPT], VOCAB_SIZE)[0]
    # Never the same prompt twice: it would be found in the prefix cache.
    long = [5 + round_number, *random_texts([LONG_PROMPT - 1], VOCAB_SIZE)[0]]

    async def run() -> tuple[float, float]:
        alone = await stream(url, short, num_tokens)
        running = asyncio.ensure_future(stream(url, short, num_tokens))
        await asyncio.sleep((alone[-1] - alone[0]) / 4)
        await stream(url, long, 1)
        gaps = sorted(later - earlier for earlier, later in pairwise(await running))
        return median(later - earlier for earlier, later in pairwise(alone)), gaps[int(0.99 * len(gaps))]

    middle, worst = asyncio.run(run())
    return 1e3 * middle, 1e3 * worst


def measure(case: str, place: Workspace, arguments: Arguments, facts: dict[str, str]) -> list[Comparison]:
    """Measure a case."""
    folder = model_folder(place)
    num_tokens = 8 if arguments.quick else NUM_TOKENS
    with servers.running(servers.ours(folder, dtype=FORMAT)) as server:
        if case == JOIN:
            pairs = [run_join(server.url, number, 4 * num_tokens) for number in range(arguments.pairs + 1)][1:]
            facts[f"{case}, 99th percentile ÷ median alone"] = (
                f"{median(worst / middle for middle, worst in pairs):.2f}"
            )
            names = ("alone, median", "join, 99th percentile")
            series = zip(names, zip(*pairs, strict=True), strict=True)
            return [Comparison(name=f"{case}, {name}", unit="ms", values={OURS: list(own)}) for name, own in series]
        prompts = random_texts([PROMPT] * CLIENTS[case], VOCAB_SIZE)
        model = triform.load(folder, dtype=FORMAT)
        batch = triform.Batch.from_ids(prompts)
        runs = {
            OURS: partial(run_streams, server.url, prompts, num_tokens),
            "pipeline": partial(_generate, model, batch, num_tokens),
        }
        for run in runs.values():
            run()
        return [compare(case, runs, pairs=arguments.pairs, amount=num_tokens * len(prompts))]


def _generate(model: triform.Model, batch: triform.Batch, num_tokens: int) -> float:
    begin = time.perf_counter()
    model.generate(batch, max_new_tokens=num_tokens, eos_token_id=[], do_sample=False)
    return time.perf_counter() - begin


if __name__ == "__main__":
    run_cases(__doc__, [*CLIENTS, JOIN], "Streams", measure)
