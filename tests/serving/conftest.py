"""Servers of the shipped models and of a real sentence encoder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
