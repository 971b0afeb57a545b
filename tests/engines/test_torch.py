"""The torch engine: against the reference engine operation by operation, and against `transformers` as a whole."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import triform
from tests.parity.cases import CASES, bert, llama, t5
from tests.parity.harness import Case, compare, make_checkpoint, random_ids, random_inputs
from triform import spec
from triform.engines import DistanceBias, Format, PackedKeyValues, PagedKeyValues, PageTable, Spans, StoredTensor, Use
from triform.engines.reference import ReferenceEngine
from triform.engines.torch import TorchEngine
from triform.errors import EngineError
from triform.models import Decoder
from triform.spec import Activation, Mask, Pooling

REFERENCE = ReferenceEngine()
TORCH = TorchEngine("cpu")
Floats = NDArray[np.float32]


def random_array(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(actual: torch.Tensor, expected: Floats) -> None:
    assert tuple(actual.shape) == expected.shape
    found = TORCH.to_numpy(actual)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max(initial=0) <= 1e-5 * max(1, np.abs(expected).max(initial=0))


def prepared(array: Floats, format: Format = Format.FLOAT32) -> tuple[Any, Any]:
    stored = StoredTensor(array, Format.FLOAT32)
    return REFERENCE.prepare("w", stored, format, Use.LINEAR), TORCH.prepare("w", stored, format, Use.LINEAR)


@pytest.mark.parametrize("format", list(Format))
def test_parameters_are_those_of_the_reference_engine(format: Format) -> None:
    numpy, ours = prepared(random_array(40, 24), format)
    assert ours.shape == (40, 24)
    assert isinstance(ours.tensor, torch.nn.Parameter)
    stored = TORCH.stored(ours)
    assert stored.format is format
    np.testing.assert_array_equal(stored.array, REFERENCE.stored(numpy).array)
    ids = np.array([3, 3, 39])
    close(TORCH.embedding(TORCH.asarray(ids), ours), REFERENCE.embedding(ids, numpy))
    x = random_array(5, 24, seed=1)
    close(TORCH.linear(torch.tensor(x), ours), REFERENCE.linear(x, numpy))


@pytest.mark.parametrize("activation", [None, *Activation])
@pytest.mark.parametrize("with_residual", [False, True])
def test_linear(activation: Activation | None, with_residual: bool) -> None:
    weight, bias = prepared(random_array(16, 24)), prepared(random_array(16, seed=2))
    x = random_array(5, 24, seed=1)
    residual = random_array(5, 16, seed=3) if with_residual else None
    expected = REFERENCE.linear(x, weight[0], bias[0], activation=activation, residual=residual)
    own = None if residual is None else torch.tensor(residual)
    close(TORCH.linear(torch.tensor(x), weight[1], bias[1], activation=activation, residual=own), expected)


def test_norms_and_rotary() -> None:
    weight, bias = prepared(random_array(24)), prepared(random_array(24, seed=2))
    x = random_array(5, 24, seed=1)
    close(
        TORCH.layer_norm(torch.tensor(x), weight[1], bias[1], 1e-5), REFERENCE.layer_norm(x, weight[0], bias[0], 1e-5)
    )
    close(TORCH.rms_norm(torch.tensor(x), weight[1], 1e-6), REFERENCE.rms_norm(x, weight[0], 1e-6))
    close(TORCH.normalize(torch.tensor(x)), REFERENCE.normalize(x))
    heads, positions = random_array(5, 4, 10), np.array([0, 1, 2, 0, 70])
    frequencies = np.array([1, 0.1, 0.01], np.float32)  # of 10 channels, 6 turn
    expected = REFERENCE.rotary(heads, REFERENCE.rotary_table(positions, frequencies))
    close(TORCH.rotary(torch.tensor(heads), TORCH.rotary_table(TORCH.asarray(positions), frequencies)), expected)


@pytest.mark.parametrize("pooling", list(Pooling))
def test_pooling(pooling: Pooling) -> None:
    x = random_array(12, 6)
    # Rows between the spans belong to none.
    spans = Spans(np.array([0, 4, 5]), np.array([3, 5, 12]))
    close(TORCH.pool(torch.tensor(x), spans, pooling), REFERENCE.pool(x, spans, pooling))


def test_the_greatest_in_order() -> None:
    x = np.array([[1, 3, 3, -np.inf, 2, 3]], np.float32)
    for k in (1, 2, 4, 6):
        for ours, expected in zip(TORCH.top_k(torch.tensor(x), k), REFERENCE.top_k(x, k), strict=True):
            np.testing.assert_array_equal(ours, expected)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 70)), min_size=1, max_size=5),
    st.sampled_from([(4, 4), (4, 2), (3, 1)]),
    st.sampled_from(list(Mask)),
    st.sampled_from([None, 1, 5]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_attention(
    lengths: list[tuple[int, int]],
    heads: tuple[int, int],
    mask: Mask,
    window: int | None,
    biased: bool,
    paged: bool,
    traced: bool,
) -> None:
    """Sequences of some queries behind some keys, packed or in pages, with everything that may be added."""
    num_queries = np.array([queries for queries, _ in lengths])
    num_keys = np.array([queries + past for queries, past in lengths])
    query = random_array(int(num_queries.sum()), heads[0], 8)
    key, value = random_array(2, int(num_keys.sum()), heads[1], 8, seed=1)
    longest = int(num_keys.max())
    values = random_array(heads[0], 2 * longest - 1, seed=2)
    seen: dict[Any, list[Any]] = {REFERENCE: [], TORCH: []}
    outputs = []
    for engine, convert in ((REFERENCE, lambda x: x), (TORCH, torch.tensor)):
        spans = Spans.of_lengths(num_keys)
        keys: Any = PackedKeyValues(convert(key), convert(value), spans)
        if paged:
            size = engine.page_size
            counts = -(-num_keys // size)
            pages = np.random.default_rng(3).permutation(int(counts.sum()))
            table_spans = Spans.of_lengths(counts)
            places = np.concatenate([np.arange(n) for n in num_keys])
            begins = np.repeat(table_spans.begins, num_keys)
            slots = pages[begins + places // size] * size + places % size
            store = engine.key_value_store([(heads[1], 8)])
            store.grow(len(pages))
            table = PageTable(pages, table_spans, num_keys, slots)
            store.write(0, convert(key), convert(value), table)
            keys = PagedKeyValues(store, 0, table)

        def look(sequence: int, first: int, p: Any, seen: list[Any] = seen[engine], engine: Any = engine) -> Any:
            seen.append((sequence, engine.to_numpy(p)))
            return p

        outputs.append(
            engine.attention(
                convert(query),
                Spans.of_lengths(num_queries),
                keys,
                scale=0.3,
                mask=mask,
                window=window,
                bias=DistanceBias(convert(values), longest - 1) if biased else None,
                probabilities=look if traced else None,
            )
        )
    close(outputs[1], outputs[0])
    for (_, expected), (_, ours) in zip(
        *(sorted(each, key=lambda pair: pair[0]) for each in seen.values()), strict=True
    ):
        # Keys that the reference engine cuts off have probability 0 here.
        np.testing.assert_allclose(ours[..., : expected.shape[-1]], expected, atol=1e-6)
        assert not ours[..., expected.shape[-1] :].any()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_family_equals_transformers(case: Case, tmp_path: Path) -> None:
    reference = make_checkpoint(case, tmp_path)
    model = triform.load(tmp_path, engine="torch:cpu")
    sources, targets = random_inputs(case, model)
    compare(model, reference, sources, targets)


FORMS = [
    Case(name="bert", model="BertForMaskedLM", config=bert),
    Case(name="llama", model="LlamaForCausalLM", config=lambda: llama(num_key_value_heads=2, tie_word_embeddings=True)),
    Case(name="t5", model="T5ForConditionalGeneration", config=t5),
]


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case.name)
def test_loss_and_every_gradient_equal_those_of_transformers(case: Case, tmp_path: Path) -> None:
    """Of one batch of two sequences of unequal length, every token of the target with a label."""
    reference = make_checkpoint(case, tmp_path)
    model = triform.load(tmp_path, engine="torch:cpu")
    sources = random_ids(case, lengths=(9, 17))
    labels = random_ids(case, lengths=(9, 17), seed=5)
    has_target = isinstance(model.spec.form, spec.EncoderDecoder)
    targets = random_ids(case, lengths=(9, 17), seed=6) if has_target else None
    batch = triform.Batch.from_ids(sources)
    logits = model.network(batch, *([] if targets is None else [triform.Batch.from_ids(targets)])).logits
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels[0] + labels[1]))
    loss.backward()
    rows = []
    for place, source in enumerate(sources):
        own = {} if targets is None else {"decoder_input_ids": torch.tensor([targets[place]])}
        rows.append(reference(torch.tensor([source]), **own).logits[0])
    expected = torch.nn.functional.cross_entropy(torch.cat(rows), torch.tensor(labels[0] + labels[1]))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    theirs = dict(reference.named_parameters())
    for name, parameter in model.parameters.items():
        piece = model.blueprint.assignment.sources[name]
        gradient = theirs[piece.tensor].grad
        assert gradient is not None
        actual = parameter.tensor.grad  # type: ignore[attr-defined]
        assert (actual - gradient).abs().max() <= 1e-4 * max(1e-3, gradient.abs().max()), name


@pytest.mark.parametrize("case", FORMS[1:], ids=lambda case: case.name)
def test_generation_through_the_cache(case: Case, tmp_path: Path) -> None:
    make_checkpoint(case, tmp_path)
    ours, numpy = triform.load(tmp_path, engine="torch:cpu"), triform.load(tmp_path, engine="reference")
    prompts = triform.Batch.from_ids(random_ids(case, lengths=(5, 1, 40, 9)))
    for arguments in ({}, {"num_beams": 3}, {"do_sample": True, "seed": 3}):
        expected = numpy.generate(prompts, max_new_tokens=12, **arguments)
        assert ours.generate(prompts, max_new_tokens=12, **arguments) == expected


def test_saved_as_it_was_loaded(tmp_path: Path) -> None:
    make_checkpoint(FORMS[0], tmp_path / "a")
    triform.load(tmp_path / "a", engine="torch:cpu", dtype="bfloat16").save(tmp_path / "b")
    triform.load(tmp_path / "a", engine="reference", dtype="bfloat16").save(tmp_path / "c")
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == (tmp_path / "c" / "model.safetensors").read_bytes()


def test_a_cache_refuses_what_wants_gradients(tmp_path: Path) -> None:
    make_checkpoint(FORMS[1], tmp_path)
    model = triform.load(tmp_path, engine="torch:cpu")
    assert isinstance(model.network, Decoder)
    with pytest.raises(EngineError, match="would lose the gradients"):
        model.network(triform.Batch.from_ids([[5, 6]]), cache=model.new_cache(1))


def test_devices_are_named() -> None:
    with pytest.raises(EngineError, match="engine='torch:nonsense': torch has no such device here"):
        triform.engines.create_engine("torch:nonsense")
    with pytest.raises(EngineError, match=r"engine='numpy' is not known.*torch:DEVICE"):
        triform.engines.create_engine("numpy")


def test_without_torch_the_remedy_is_named() -> None:
    script = (
        "import sys; sys.modules['torch'] = None; from triform.engines import create_engine; create_engine('torch')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "needs torch" in done.stderr
    assert "pip install 'triform[torch]'" in done.stderr
