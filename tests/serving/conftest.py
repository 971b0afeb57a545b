"""Servers of the shipped models, of a real sentence encoder, and of small random models for all other tasks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.damage import soundness
from tests.serving.harness import Running, ServerThread
from triform.demo import DEMOS
from triform.serving.models import Registry, load_all


@pytest.fixture(scope="session")
def registry(minilm: Path) -> Registry:
    return load_all([*DEMOS, f"minilm={minilm}"])


@pytest.fixture(scope="session")
def server(registry: Registry) -> Iterator[Running]:
    """Return a running server of all the models."""
    with ServerThread(lambda: registry) as running:
        yield running


@pytest.fixture(scope="session")
def small_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Return a small random model for each task that no shipped model does."""
    root = tmp_path_factory.mktemp("small")
    folders = [
        soundness.bert_of_labels(root / "rank", "SequenceClassification", ("one",)),
        soundness.bert_of_labels(root / "nli"),
        soundness.bert_of_labels(root / "mask", "MaskedLM"),
        soundness.bert_of_labels(root / "spans", "QuestionAnswering", ("a", "b")),
        soundness.bert_of_sentences(root / "sentences"),
        soundness.llama_that_chats(root / "chat"),
        soundness.t5_of_unigrams(root / "t5"),
    ]
    shutil.copytree(root / "sentences", root / "bare")
    (root / "bare" / "modules.json").unlink()
    return load_all([*(str(sound.folder) for sound in folders), str(root / "bare")])


@pytest.fixture(scope="session")
def small(small_registry: Registry) -> Iterator[Running]:
    """Return a running server of the small models."""
    with ServerThread(lambda: small_registry) as running:
        yield running
