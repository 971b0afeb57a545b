"""Sound checkpoints, and the worker process for damaged checkpoints."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.damage import soundness
from tests.damage.soundness import Sound

EXAMPLES = int(os.environ.get("TRIFORM_DAMAGE_EXAMPLES", "0"))
"""Number of examples of each kind of damage; by default few, and the same each time."""

settings.register_profile(
    "damage",
    deadline=None,  # the worker keeps the time
    max_examples=EXAMPLES or 8,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SECONDS = 2
"""Limit of the processor time of an attempt."""
PATIENCE = 60
"""Seconds of waiting, enough on a busy machine, after which an attempt counts as endless."""


class Worker:
    """A separate process tries checkpoints; a new process follows a dead process."""

    def __init__(self, warm_up: list[Sound]) -> None:
        self._warm_up = warm_up
        self.counts: dict[str, int] = {}
        self._start()

    def _start(self) -> None:
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.damage.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"},
            text=True,
        )
        for sound in self._warm_up:
            result = self._ask(sound)
            assert result["outcome"] == "answered", result["message"]
        self._send("\n")

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def _ask(self, sound: Sound) -> dict[str, Any]:
        assert self._process.stdout is not None
        self._send(json.dumps({**asdict(sound), "folder": str(sound.folder)}) + "\n")
        line = ""
        if select.select([self._process.stdout], [], [], PATIENCE)[0]:
            line = self._process.stdout.readline()
        if line:
            return dict(json.loads(line))
        self._process.kill()
        _, errors = self._process.communicate()
        return {"outcome": f"process ended with {self._process.returncode}", "message": errors[-2000:], "seconds": 0.0}

    def attempt(self, sound: Sound) -> str:
        """Try a checkpoint; return the message of the refusal, empty after an answer.

        Raises:
            AssertionError: the attempt ends in another way, or too late.
        """
        result = self._ask(sound)
        if self._process.poll() is not None:
            self._start()
        kind = result["message"].split(":")[0] if result["outcome"] == "refused" else result["outcome"]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        assert result["outcome"] in ("answered", "refused"), f"{result['outcome']}\n{result['message']}"
        assert result["seconds"] < SECONDS, f"{result['seconds']} s\n{result['message'][:500]}"
        return str(result["message"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sound]:
    """Return the sound checkpoints by name."""
    root = tmp_path_factory.mktemp("damage")
    labels = soundness.bert_of_labels(root / "labels")
    llama, t5 = soundness.llama_in_shards(root / "llama"), soundness.t5_of_unigrams(root / "t5")
    return {
        "sentences": soundness.bert_of_sentences(root / "sentences"),
        "labels": labels,
        "llama": llama,
        "chat": soundness.llama_that_chats(root / "chat"),
        "adapter": soundness.llama_adapted(root / "adapter", llama.folder),
        "pickle": soundness.bert_in_a_pickle(root / "pickle", labels.folder),
        "bart": soundness.bart_of_labels(root / "bart"),
        "xlm-r": soundness.xlm_roberta(root / "xlm-r"),
        "gpt2": soundness.gpt2_of_merges(root / "gpt2", llama.folder),
        "t5": t5,
        "t5-spiece": soundness.t5_of_sentence_pieces(root / "t5-spiece", t5.folder),
        "marian": soundness.marian(root / "marian"),
    }


@pytest.fixture(scope="session")
def worker(sound: dict[str, Sound]) -> Iterator[Worker]:
    worker = Worker(list(sound.values()))
    yield worker
    print(worker.counts)
    worker.close()
