"""Fixtures of the packed cache: its folder, and a model."""

from pathlib import Path

import pytest

from tests.weights import make
from triform.weights import loading


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a cache for models of any size."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRIFORM_CACHE", str(folder))
    monkeypatch.setattr(loading, "LEAST_BYTES", 0)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make("bert-masked-lm", tmp_path / "model")
    return tmp_path / "model"
