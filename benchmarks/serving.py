"""The server beside infinity, and beside sentence-transformers behind FastAPI: requests a second, and their times.

All servers run at once, and take turns in being asked by the same HTTP client, which shares the cores with them.
Weights are float32 everywhere. "overhead" is what Triform's server adds to its own pipeline for one short text.

    TRIFORM_BENCH_PYTHON=… python -m benchmarks.serving [--only embed-1 …] [--pairs N] [--quick]
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import transformers

import triform
from benchmarks import servers
from benchmarks.cases import run_cases
from benchmarks.checkpoints import Workspace
from benchmarks.http_client import Load, ask, run_load
from benchmarks.measure import OURS, Comparison, interleave, seconds
from benchmarks.report import Arguments
from benchmarks.workload import minilm_folder

WORDS = "the cat sat on a mat while old ships sailed past small towns near green hills under bright stars".split()
NUM_BODIES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A kind of request."""

    path: str
    body: Callable[[int], dict[str, Any]]
    """The body of a request by its number."""
    num_clients: int = 1
    kind: str = "encoder"
    peers: Mapping[str, Callable[[Path], list[str]]]


def text(number: int, length: int) -> str:
    """Make a text of words; equal numbers give equal texts."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, length).tolist())


def embed(count: int, number: int) -> dict[str, Any]:
    """Make a request for embeddings of several texts."""
    texts = [text(number * count + place, 10 + place) for place in range(count)]
    return {"model": "model", "input": texts[0] if count == 1 else texts, "encoding_format": "float"}


def rerank(number: int) -> dict[str, Any]:
    """Make a request to rank documents."""
    documents = [text(number * 16 + place, 20 + place) for place in range(16)]
    return {"model": "model", "query": text(number, 8), "documents": documents}


ENCODERS = {"infinity": servers.infinity, "FastAPI": servers.fastapi}
CASES = {
    "embed-1": Case(path="/v1/embeddings", body=partial(embed, 1), peers=ENCODERS),
    "embed-32": Case(path="/v1/embeddings", body=partial(embed, 32), peers=ENCODERS),
    "embed-16-clients": Case(path="/v1/embeddings", body=partial(embed, 1), num_clients=16, peers=ENCODERS),
    "rerank": Case(path="/v1/rerank", body=rerank, kind="reranker", peers=ENCODERS),
    "rerank-8-clients": Case(path="/v1/rerank", body=rerank, num_clients=8, kind="reranker", peers=ENCODERS),
}
OVERHEAD = "overhead"


def reranker_folder(place: Workspace) -> Path:
    """Make a cross-encoder of MiniLM's shape, with random weights and MiniLM's tokenizer."""
    folder = Path(place.checkpoint("minilm")).parent / "triform-reranker"
    if not (folder / "config.json").exists():
        config = transformers.AutoConfig.from_pretrained(minilm_folder(), num_labels=1)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(folder)
    return folder


def first_numbers(answer: Any) -> list[float]:
    """Read the numbers of an answer, to compare servers."""
    if "data" in answer:
        return list(answer["data"][0]["embedding"])
    return [row["relevance_score"] for row in sorted(answer["results"], key=lambda row: row["index"])]


def measure_case(name: str, place: Workspace, arguments: Arguments, facts: dict[str, str]) -> list[Comparison]:
    """Measure requests a second and their times."""
    case = CASES[name]
    folder = minilm_folder() if case.kind == "encoder" else reranker_folder(place)
    duration = 0.5 if arguments.quick else 4.0
    bodies = [case.body(number) for number in range(NUM_BODIES)]
    with ExitStack() as stack:
        urls = {OURS: stack.enter_context(servers.running(servers.ours(folder))).url}
        for peer, command in case.peers.items():
            try:
                urls[peer] = stack.enter_context(servers.running(command(folder))).url
            except SystemExit:
                facts[f"{name}, {peer}"] = "left out: the server did not start"
        answers = {side: first_numbers(ask(url, case.path, bodies[0])) for side, url in urls.items()}
        for side, numbers in answers.items():
            difference = float(np.abs(np.array(numbers) - answers[OURS]).max())
            facts[f"{name}, {side}, greatest difference"] = f"{difference:.1e}"
        runs = [partial(_load, url, case, bodies, duration) for url in urls.values()]
        for run in runs:
            run()
        rounds = interleave(runs, rounds=arguments.pairs)
    loads = dict(zip(urls, rounds, strict=True))
    for side, own in loads.items():
        failed = sum(count for load in own for status, count in load.statuses.items() if status != 200)
        assert not failed, f"{side}: {failed} requests failed"
    return [
        Comparison(
            name=name, unit="requests/s", values={side: [each.rate for each in own] for side, own in loads.items()}
        ),
        *(
            Comparison(
                name=f"{name}, p{round(100 * share)}",
                unit="ms",
                values={side: [each.percentile(share) for each in own] for side, own in loads.items()},
            )
            for share in (0.5, 0.99)
        ),
    ]


def _load(url: str, case: Case, bodies: Sequence[Any], duration: float) -> Load:
    return run_load(url, case.path, bodies, num_clients=case.num_clients, seconds=duration)


def measure_overhead(arguments: Arguments) -> list[Comparison]:
    """Measure one short text by the pipeline, and by the server."""
    pipeline = triform.pipeline("sentence-embedding", minilm_folder(), dtype="float32")
    texts = [text(number, 10) for number in range(NUM_BODIES)]
    bodies = [embed(1, number) for number in range(NUM_BODIES)]

    def alone() -> float:
        return 1e3 * median(seconds(partial(pipeline, each)) for each in texts)

    with servers.running(servers.ours(minilm_folder())) as server:

        def served() -> float:
            return run_load(server.url, "/v1/embeddings", bodies, num_clients=1, seconds=1.0).percentile(0.5)

        alone()
        served()
        rounds = interleave([served, alone], rounds=arguments.pairs)
    time.sleep(0.1)
    return [Comparison(name=OVERHEAD, unit="ms", values={OURS: rounds[0], "its pipeline": rounds[1]})]


def measure(case: str, place: Workspace, arguments: Arguments, facts: dict[str, str]) -> list[Comparison]:
    """Measure a case."""
    return measure_overhead(arguments) if case == OVERHEAD else measure_case(case, place, arguments, facts)


if __name__ == "__main__":
    run_cases(__doc__, [*CASES, OVERHEAD], "Serving", measure)
