"""The native engine: the same to the last bit alone, in any batch, through the cache, and on any number of threads."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triform
from tests.engines import INTEGERS
from tests.generation.reference import EOS
from tests.parity.cases import CASES, llama, t5
from tests.parity.harness import Case, make_checkpoint, random_ids, random_inputs
from triform import Batch
from triform.engines import FORMATS, Format, Hook, KeysAndValues, Spans, create_engine
from triform.engines.native import NativeEngine, _kernels
from triform.engines.numpy_operations import NumPyOperations
from triform.engines.protocol import TypedEngine
from triform.engines.reference import ReferenceEngine
from triform.errors import EngineError
from triform.spec import Pooling

SETS = _kernels.instruction_sets()
LENGTHS = (40, 1, 33, 7, 64, 32, 95)
"""Around the size of a page, and of the tiles of rows."""
WRITERS = [
    Case(name="llama", model="LlamaForCausalLM", config=lambda: llama(num_key_value_heads=2, hidden_size=64)),
    Case(name="t5", model="T5ForConditionalGeneration", config=lambda: t5(feed_forward_proj="gated-gelu")),
]


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = _kernels.num_threads()
    _kernels.set_num_threads(request.param)
    yield request.param
    _kernels.set_num_threads(before)


def lengths_of(case: Case) -> tuple[int, ...]:
    limit = getattr(case.config(), "max_position_embeddings", None) or 64
    return tuple(min(length, limit - 4) for length in LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_alone_and_in_a_batch(case: Case, tmp_path: Path) -> None:
    make_checkpoint(case, tmp_path)
    for name, format in product(SETS, (Format.FLOAT32, *INTEGERS)):
        model = triform.load(tmp_path, engine=f"native:{name}", dtype=format.name)
        sources, targets = random_inputs(case, model, lengths=lengths_of(case))

        def run(chosen: list[int], model: Any = model, sources: Any = sources, targets: Any = targets) -> Any:
            target = None if targets is None else Batch.from_ids([targets[i] for i in chosen])
            return model(Batch.from_ids([sources[i] for i in chosen]), target)

        together = run(list(range(len(sources))))
        parts = ["last_hidden_state"] + ([] if together.logits is None else ["logits"])
        for index in range(len(sources)):
            alone = run([index])
            for part in parts:
                np.testing.assert_array_equal(alone.split(part)[0], together.split(part)[index])


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS.values(), ids=str)
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("case", WRITERS, ids=lambda case: case.name)
def test_the_same_token_by_token_and_in_ragged_pieces(case: Case, name: str, format: Format, tmp_path: Path) -> None:
    make_checkpoint(case, tmp_path)
    model = triform.load(tmp_path, engine=f"native:{name}", dtype=format.name)
    sources, targets = random_inputs(case, model, lengths=LENGTHS)
    source, sequences = Batch.from_ids(sources), targets or sources
    whole = model(source, None if targets is None else Batch.from_ids(targets)).split("logits")
    memory = None if targets is None else model.encode(source)
    cache, done = model.new_cache(len(sequences)), [0] * len(sequences)
    active = list(range(len(sequences)))
    random = np.random.default_rng(0)
    while active:
        steps = [int(random.integers(1, 8)) if random.random() < 0.5 else 1 for _ in active]
        pieces = Batch.from_ids([sequences[i][done[i] : done[i] + step] for i, step in zip(active, steps, strict=True)])
        output = model(pieces, cache=cache) if memory is None else model(memory, pieces, cache=cache)
        for i, logits in zip(active, output.split("logits"), strict=True):
            np.testing.assert_array_equal(logits, whole[i][done[i] : done[i] + len(logits)])
            done[i] += len(logits)
        going = np.array([place for place, i in enumerate(active) if done[i] < len(sequences[i])], np.int64)
        cache.keep(going)
        memory = memory and memory.select(going)
        active = [active[place] for place in going]


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS.values(), ids=str)
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("case", [*WRITERS, CASES[0]], ids=lambda case: case.name)
def test_the_same_on_any_number_of_threads_and_with_hooks(
    case: Case, name: str, format: Format, threads: int, tmp_path: Path
) -> None:
    make_checkpoint(case, tmp_path)
    model = triform.load(tmp_path, engine=f"native:{name}", dtype=format.name)
    sources, targets = random_inputs(case, model, lengths=[min(length, 60) for length in (200, 3, 70, 40, 40)])

    class Everything(Hook):
        def wants(self, name: str) -> bool:
            return True

        def probabilities(self, name: str, sequence: int, first_query: int, value_NQK: Any) -> Any:
            np.testing.assert_allclose(value_NQK.sum(axis=-1), 1, atol=1e-5)
            return value_NQK

    arguments = Batch.from_ids(sources), None if targets is None else Batch.from_ids(targets)
    plain = model(*arguments).last_hidden_state
    np.testing.assert_array_equal(model(*arguments, hook=Everything()).last_hidden_state, plain)
    _kernels.set_num_threads(1)
    np.testing.assert_array_equal(model(*arguments).last_hidden_state, plain)


@pytest.mark.parametrize("format", FORMATS.values(), ids=str)
@pytest.mark.parametrize("case", WRITERS, ids=lambda case: case.name)
def test_generation_is_the_same_alone_and_in_a_batch(case: Case, format: Format, tmp_path: Path) -> None:
    make_checkpoint(case, tmp_path)
    model = triform.load(tmp_path, engine="native", dtype=format.name)
    prompts = random_ids(case, lengths=(40, 1, 33, 7))
    for settings in ({}, {"num_beams": 3}, {"do_sample": True, "seed": 2}):
        arguments: dict[str, Any] = {"max_new_tokens": 20, "eos_token_id": EOS, "log_probabilities": True, **settings}
        together = model.complete(Batch.from_ids(prompts), **arguments)
        assert together == [model.complete(Batch.from_ids([prompt]), **arguments)[0] for prompt in prompts]


@pytest.mark.parametrize("name", SETS)
def test_tokens_are_chosen_of_a_row_alone_as_in_a_batch(name: str) -> None:
    engine = create_engine(f"native:{name}")
    x = np.random.default_rng(0).standard_normal((9, 1001)).astype(np.float32)
    for k in (1, 8):
        for operation in (engine.top_log_probabilities, engine.top_k):
            together = operation(x, k)
            for row in range(9):
                for part in range(2):
                    np.testing.assert_array_equal(operation(x[row : row + 1], k)[part][0], together[part][row])
    np.testing.assert_array_equal(engine.log_softmax(x[4:5])[0], engine.log_softmax(x)[4])


@pytest.mark.parametrize("name", SETS)
def test_rows_alone_as_in_a_batch(name: str) -> None:
    engine = create_engine(f"native:{name}")
    spans = Spans.of_lengths(np.array([300, 1, 40]))
    x = np.random.default_rng(0).standard_normal((341, 4, 50)).astype(np.float32)
    flat, positions = x.reshape(341, 200), np.arange(341)
    frequencies = np.geomspace(1, 1e-3, 20, dtype=np.float32)
    together = engine.rotary(x, engine.rotary_table(positions, frequencies))
    normal = engine.normalize(flat)
    for pooling in Pooling:
        pooled = engine.pool(flat, spans, pooling)
        for sequence, (begin, end) in enumerate(spans.pairs()):
            own = slice(begin, end)
            alone = engine.pool(flat[own], Spans.of_lengths(np.array([end - begin])), pooling)
            np.testing.assert_array_equal(alone[0], pooled[sequence])
            np.testing.assert_array_equal(engine.normalize(flat[own]), normal[own])
            turned = engine.rotary(x[own], engine.rotary_table(positions[own], frequencies))
            np.testing.assert_array_equal(turned, together[own])


def test_operations_without_a_kernel_are_listed() -> None:
    operations = {
        name for name in dir(TypedEngine) if not name.startswith("_") and callable(getattr(TypedEngine, name))
    }
    fallbacks = {name for name in operations if hasattr(NumPyOperations, name)}
    assert fallbacks == {"asarray", "to_numpy", "add", "multiply", "transpose", "rotary_table"}
    for name in fallbacks:
        assert getattr(NativeEngine, name) is getattr(ReferenceEngine, name) is getattr(NumPyOperations, name)


def test_the_instruction_set_is_chosen_by_the_environment() -> None:
    script = "from triform.engines import create_engine; print(create_engine('native').instruction_set)"
    for name in SETS:
        environment = {**os.environ, "TRIFORM_ISA": name}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout.strip() == name
    with pytest.raises(EngineError, match="this machine has .*plain"):
        create_engine("native:quantum")


def test_where_the_kernels_were_not_built_auto_takes_the_reference_engine_and_says_so(tmp_path: Path) -> None:
    make_checkpoint(CASES[0], tmp_path)
    begin = "import sys; sys.modules['triform.engines.native._kernels'] = None; import triform; "
    done = subprocess.run(
        [sys.executable, "-c", f"{begin} print(triform.load({str(tmp_path)!r}).engine.name)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "reference\n"
    assert "EngineWarning: The native kernels were not built when Triform was installed" in done.stderr
    done = subprocess.run(
        [sys.executable, "-c", f"{begin} triform.load({str(tmp_path)!r}, engine='native')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "EngineError: engine='native' cannot be used" in done.stderr
    assert "Remedy: install Triform where there is a C++ compiler" in done.stderr


def test_a_store_that_cannot_grow_keeps_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    store = NativeEngine().key_value_store([KeysAndValues(2, 8)] * 3)
    store.grow(4)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("triform.engines.native.key_value_store.mmap.mmap", refuse)
        with pytest.raises(MemoryError, match="cannot grow"):
            store.grow(100)
    assert [len(array) for array in (*store.keys, *store.values)] == [4] * 6
    store.grow(100)
    assert [len(array) for array in (*store.keys, *store.values)] == [100] * 6
