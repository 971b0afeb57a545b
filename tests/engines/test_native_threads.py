"""The pool of the native engine: shared by threads of Python, left behind by forks, and stopped by Ctrl-C."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests.parity.cases import CASES, bert, llama
from tests.parity.harness import Case, make_checkpoint, random_ids
from triform import Batch
from triform.engines import Format, ParameterRole, StoredTensor, create_engine
from triform.engines.native import _kernels
from triform.engines.native.threads import num_threads, usable_cores
from triform.errors import EngineError

WRITER = Case(name="llama", model="LlamaForCausalLM", config=llama)
READER = Case(name="bert", model="BertModel", config=lambda: bert(max_position_embeddings=2000))
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = _kernels.num_threads()
    _kernels.set_num_threads(request.param)
    yield request.param
    _kernels.set_num_threads(before)


def load(case: Case, folder: Path) -> triform.Model:
    make_checkpoint(case, folder)
    return triform.load(folder, engine="native")


@contextmanager
def others_at_work(model: triform.Model, batch: Batch) -> Iterator[None]:
    """Run two threads that call a model at the same time."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            model(batch)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    yield
    over.set()
    for worker in workers:
        worker.join()


def test_threads_of_python_and_several_models_share_the_pool(threads: int, tmp_path: Path) -> None:
    models = [load(case, tmp_path / case.name) for case in (CASES[0], WRITER)]
    batches = [
        Batch.from_ids(random_ids(case, lengths=(30, 9, 40), seed=seed)) for seed in range(4) for case in CASES[:1] * 2
    ]
    work = [(models[place % 2], batch) for place, batch in enumerate(batches)]
    expected = [model(batch).last_hidden_state for model, batch in work]
    with ThreadPoolExecutor(len(work)) as pool:
        for _ in range(20):
            found = pool.map(lambda pair: pair[0](pair[1]).last_hidden_state, work)
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@forks
def test_a_forked_process_has_a_pool_of_its_own(threads: int, tmp_path: Path) -> None:
    model = load(CASES[0], tmp_path)
    batch = Batch.from_ids(random_ids(CASES[0], lengths=(30, 9, 40)))
    expected = model(batch).last_hidden_state
    with others_at_work(model, batch):
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                same = np.array_equal(model(batch).last_hidden_state, expected)
                os._exit(0 if same and _kernels.num_threads() == threads else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@forks
def test_workers_of_multiprocessing(tmp_path: Path) -> None:
    model = load(CASES[0], tmp_path)
    batch = Batch.from_ids(random_ids(CASES[0], lengths=(30, 9, 40)))
    expected = model(batch).last_hidden_state
    with multiprocessing.get_context("fork").Pool(3) as pool:
        for found in [pool.apply_async(_answer, (tmp_path,)) for _ in range(6)]:
            np.testing.assert_array_equal(found.get(timeout=60), expected)


def _answer(folder: Path) -> Any:
    model = triform.load(folder, engine="native")
    return model(Batch.from_ids(random_ids(CASES[0], lengths=(30, 9, 40)))).last_hidden_state


def test_other_threads_of_python_go_on_meanwhile() -> None:
    engine = create_engine("native")
    x = np.ones((3000, 1024), np.float32)
    weight = engine.prepare("w", StoredTensor(x, Format.FLOAT32), Format.FLOAT32, ParameterRole.LINEAR)
    moments: list[float] = []
    over = threading.Event()

    def count() -> None:
        while not over.wait(0.001):
            moments.append(time.perf_counter())

    counter = threading.Thread(target=count)
    counter.start()
    begin = time.perf_counter()
    engine.linear(x, weight)
    end = time.perf_counter()
    over.set()
    counter.join()
    assert sum(begin < moment < end for moment in moments) >= 5


LONG = {
    "one operation": """
import numpy as np
from triform.engines import PackedKeyValues, Spans, create_engine
from triform.spec import Bidirectional, ScoreRule
engine = create_engine("native")
def answer(length):
    x = np.ones((length, 8, 32), np.float32)
    spans = Spans.of_lengths(np.array([length]))
    return engine.attention(x, spans, PackedKeyValues(x, x, spans), ScoreRule(scale=1.0, mask=Bidirectional()))
long = lambda: answer(30_000)
short = lambda: answer(100)
""",
    "one forward": """
import triform
model = triform.load(sys.argv[1] + "/bert", engine="native")
answer = lambda count: model(triform.Batch.from_ids([[5] * 2000] * count)).last_hidden_state
long = lambda: answer(200)
short = lambda: answer(1)
""",
    "generation": """
import triform
model = triform.load(sys.argv[1] + "/llama", engine="native")
answer = lambda count: model.generate(triform.Batch.from_ids([[5, 6]]), max_new_tokens=count, at_context_end="slide")
long = lambda: answer(1_000_000)
short = lambda: answer(10)
""",
}
INTERRUPTED = """
import sys, time
{long}
expected = short()
print("begins", flush=True)
try:
    long()
except KeyboardInterrupt:
    print(time.time(), flush=True)
assert (expected == short()) if isinstance(expected, list) else (expected == short()).all()
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for case in (READER, WRITER):
        make_checkpoint(case, folder / case.name)
    return folder


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.parametrize("count", ["1", "2"])
@pytest.mark.parametrize("what", LONG)
def test_ctrl_c_is_answered_within_a_second(what: str, count: str, models: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(long=LONG[what]), str(models)],
        env=os.environ | {"TRIFORM_THREADS": count},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    time.sleep(0.3)
    sent = time.time()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert float(output) - sent < 1


def test_as_many_threads_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIFORM_THREADS", "7")
    assert num_threads() == 7
    monkeypatch.delenv("TRIFORM_THREADS")
    assert num_threads() == usable_cores()
    for wrong in ("0", "-1", "two", "1.5", "100000"):
        monkeypatch.setenv("TRIFORM_THREADS", wrong)
        with pytest.raises(EngineError, match=f"TRIFORM_THREADS='{wrong}': expected a number of threads from 1 to"):
            num_threads()


def test_as_many_threads_as_the_process_may_use_cores() -> None:
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from triform.engines.native import _kernels
print(_kernels.num_threads())
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRIFORM_THREADS"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/", {"cpu.max": "max 100000\n"}, 64),
        ("0::/", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/a/b", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "200000 100000\n"}, 1),
        ("0::/../elsewhere", {"cpu.max": "400000 100000\n"}, 4),
        ("4:cpu,cpuacct:/a\n0::/", {"cpu/a/cpu.cfs_quota_us": "150000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:cpu,cpuacct:/a\n0::/", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 64),
        ("3:memory:/a", {"cpu.max": "100000 100000\n"}, 64),
        ("0::/", {}, 64),
    ],
)
def test_as_many_threads_as_a_container_has_time_for(
    groups: str, limits: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cgroup").write_text(groups + "\n")
    for name, content in limits.items():
        file = tmp_path / "mounted" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    assert usable_cores(tmp_path / "cgroup", tmp_path / "mounted") == expected
    assert usable_cores(tmp_path / "nowhere", tmp_path / "mounted") == 64


USE_MEMORY = """
import re, time
from pathlib import Path
from triform.engines.native.memory import empty

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = anonymous()
array = empty(4000, 1000)
array[:] = 1
address = array.ctypes.data
del array
kept, is_again = anonymous() - before, empty(3999, 1000).ctypes.data == address
begin = time.monotonic()
while anonymous() - before >= 2_000 and time.monotonic() - begin < 30:
    time.sleep(0.1)
print(kept > 15_000, is_again, 4 < time.monotonic() - begin < 30)
"""


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.parametrize("count", ["1", "2"])
def test_memory_is_used_again_and_given_back_when_idle(count: str) -> None:
    environment = {**os.environ, "TRIFORM_THREADS": count}
    done = subprocess.run(
        [sys.executable, "-c", USE_MEMORY], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["True", "True", "True"]
