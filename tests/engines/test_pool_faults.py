"""The pool of the native engine where the system fails: no memory in a kernel, no threads, the end of the process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.parity.cases import bert, llama
from tests.parity.harness import Case, make_checkpoint
from triform.engines import Format, StoredTensor, create_engine
from triform.errors import WeightError

LONG = Case(name="llama", model="LlamaForCausalLM", config=lambda: llama(max_position_embeddings=100_000))
READER = Case(name="bert", model="BertModel", config=lambda: bert(max_position_embeddings=2000))


def run(script: str, folder: Path, threads: int) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"TRIFORM_THREADS": str(threads), "OMP_NUM_THREADS": "1", "TRIFORM_CACHE": "off"}
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


NO_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np, triform
model = triform.load(sys.argv[1], engine="native")
answer = lambda count: model(triform.Batch.from_ids([[3] * count]), logits_at=np.array([0])).logits
expected = answer(2000)
outcomes = []
for spare in range(1, 40, 3):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + spare * 2**20, resource.RLIM_INFINITY))
    try:
        answer(20_000)
        break
    except MemoryError:
        outcomes.append("MemoryError")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (answer(2000) == expected).all()
print(len(outcomes))
"""


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize("threads", [1, 2])
def test_memory_that_runs_out_in_a_kernel_is_a_memory_error(threads: int, tmp_path: Path) -> None:
    make_checkpoint(LONG, tmp_path)
    done = run(NO_MEMORY, tmp_path, threads)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3


NO_THREADS = """
import os, resource, sys, warnings
from pathlib import Path
import numpy as np, triform
from triform.engines.native import _kernels
os.chdir(sys.argv[1])
triform.load(".", engine="native")
{limit}
warnings.simplefilter("always")
_kernels.set_num_threads(400)
model = triform.load(".", engine="native")
print(_kernels.num_threads(), np.isfinite(model(triform.Batch.from_ids([[5, 6]])).last_hidden_state).all())
"""
LIMITS = {
    "memory": """
used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))""",
    # The system does not limit root, so root becomes a user without other processes.
    "processes": """
if os.getuid() == 0:
    os.setuid(54321)
resource.setrlimit(resource.RLIMIT_NPROC, (4, 4))""",
}


@pytest.mark.serial
@pytest.mark.parametrize("limit", LIMITS)
def test_threads_that_do_not_start_are_done_without(limit: str, tmp_path: Path) -> None:
    make_checkpoint(READER, tmp_path)
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755)
    done = run(NO_THREADS.format(limit=LIMITS[limit]), tmp_path, 2)
    assert done.returncode == 0, done.stderr
    threads, is_finite = done.stdout.split()
    assert 1 <= int(threads) < 400
    assert is_finite == "True"
    assert f"The system did not start {400 - int(threads)} of the kernels' threads" in done.stderr


AT_EXIT = """
import sys, threading, time, triform
model = triform.load(sys.argv[1], engine="native")
batch = triform.Batch.from_ids([[5] * 128] * 20)
def work():
    while True:
        model(batch)
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_the_process_ends_well_while_a_daemon_thread_is_in_a_kernel(threads: int, tmp_path: Path) -> None:
    make_checkpoint(READER, tmp_path)
    for _ in range(4):
        done = run(AT_EXIT, tmp_path, threads)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("format", [Format.FLOAT32, Format.FLOAT16, Format.INT8, Format.INT4])
def test_a_packed_weight_of_another_size_is_refused(format: Format) -> None:
    engine = create_engine("native")
    weight = np.random.default_rng(0).normal(size=(70, 64)).astype(np.float32)
    packed = engine.pack(StoredTensor(weight, Format.FLOAT32), format)
    assert engine.adopt(packed, (70, 64)).shape == (70, 64)
    for array in (packed.array[:1], np.concatenate([packed.array, packed.array])):
        with pytest.raises(WeightError, match="bytes; expected"):
            engine.adopt(StoredTensor(array, packed.format), (70, 64))
