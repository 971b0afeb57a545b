"""The examples, run against a server as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.harness import Running, ServerThread
from triform.serving.models import Registry

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, url: str) -> str:
    script = str(EXAMPLES / f"{name}.py")
    environment = {**os.environ, "HF_HUB_OFFLINE": "0"}  # offline, the client asks no server at all
    done = subprocess.run(
        [sys.executable, script, url], check=False, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai_client", "\n"),
        ("huggingface_client", "LOC  Warsaw\nMon chat dort sur le canapé."),
    ],
)
def test_examples_of_the_shipped_models(server: Running, name: str, expected: str) -> None:
    assert expected in run(name, server.url)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cohere_client", "1.00  A cat sat on the mat."), ("langchain_client", "The ferry leaves at seven.")],
)
def test_examples_of_a_sentence_encoder(registry: Registry, name: str, expected: str) -> None:
    with ServerThread(lambda: Registry([registry.models["minilm"]])) as running:
        assert expected in run(name, running.url)
