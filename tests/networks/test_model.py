"""Model loading and calls: results of `load` and of a model, and refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import triform
from tests.parity.cases import CASES
from tests.parity.harness import Case, assert_close, make_checkpoint
from triform import Batch, Model
from triform.engines import Array, Format, Hook, ParameterRole, StoredTensor, create_engine
from triform.errors import EngineError, InputError, NonFiniteError, WrongTaskError
from triform.networks.context import ForwardContext
from triform.networks.layers.residual import Residual
from triform.networks.scope import Scope
from triform.spec import Activation, FeedForward, RMSNorm
from triform.spec import Residual as ResidualSpec

BY_NAME = {case.name: case for case in CASES}
IDS = [[5, 6, 7, 8], [9], [10, 11, 12]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function from the name of a case to the loaded model."""
    made: dict[str, Model] = {}

    def get(name: str) -> Model:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            make_checkpoint(BY_NAME[name], folder)
            made[name] = triform.load(folder)
        return made[name]

    return get


class Recorder(Hook):
    """A hook records every value, and may change one trace point."""

    def __init__(self, change: str = "", factor: float = 1.0) -> None:
        self.seen: dict[str, list[Array]] = {}
        self.change = change
        self.factor = factor

    def wants(self, name: str) -> bool:
        return True

    def tensor(self, name: str, value: Array) -> Array:
        self.seen.setdefault(name, []).append(value)
        return value * np.float32(self.factor) if name == self.change else value

    def probabilities(self, name: str, sequence: int, first_query: int, value_NQK: Array) -> Array:
        self.seen.setdefault(name, []).append((sequence, first_query, value_NQK))
        return value_NQK * np.float32(self.factor) if name == self.change else value_NQK


@pytest.mark.parametrize("name", ["bert-masked-lm", "llama-grouped", "t5-lm"])
def test_a_hook_sees_every_stage_and_changes_nothing(models: Any, name: str) -> None:
    model, recorder = models(name), Recorder()
    batch = Batch.from_ids(IDS)
    target = batch if name == "t5-lm" else None
    plain = model(batch, target)
    traced = model(batch, target, hook=recorder)
    np.testing.assert_array_equal(traced.last_hidden_state, plain.last_hidden_state)
    stack = "decoder." if target else ""
    core = f"{stack}blocks.1.attention"
    expected = {f"{core}.{point}" for point in ("query", "key", "value", "context", "probabilities", "output")}
    expected |= {f"{stack}embedding", f"{stack}embedding.word", f"{stack}blocks.0", f"{stack}last_hidden_state"}
    expected |= {f"{stack}blocks.2.feed_forward.inner" if not target else f"{stack}blocks.1.cross_attention.key"}
    assert expected <= set(recorder.seen)
    for _, _, probabilities in recorder.seen[f"{core}.probabilities"]:
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=0, atol=1e-6)
    assert len(recorder.seen[f"{core}.probabilities"]) == len(IDS)


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("bert-masked-lm", "embedding.segment"),
        ("bert-masked-lm", "blocks.1.attention.probabilities"),
        ("bert-masked-lm", "blocks.1.attention.output"),
        ("llama-grouped", "blocks.0.attention.key"),
        ("llama-grouped", "blocks.2.feed_forward.inner"),
        ("t5-lm", "decoder.blocks.0.cross_attention.value"),
        ("t5-lm", "encoder.blocks.2"),
    ],
)
def test_a_hook_can_intervene(models: Any, name: str, point: str) -> None:
    model, batch = models(name), Batch.from_ids(IDS)
    target = batch if name == "t5-lm" else None
    plain = model(batch, target)
    changed = model(batch, target, hook=Recorder(point, 0.0))
    assert np.abs(changed.logits - plain.logits).max() > 1e-3
    # Nothing stays behind.
    np.testing.assert_array_equal(model(batch, target).logits, plain.logits)


def test_an_intervention_shows_in_the_hidden_states(models: Any) -> None:
    model, batch = models("bert"), Batch.from_ids(IDS)
    plain = model(batch, hidden_states=True).hidden_states
    changed = model(batch, hidden_states=True, hook=Recorder("blocks.1", 2.0)).hidden_states
    np.testing.assert_array_equal(changed[1], plain[1])
    np.testing.assert_array_equal(changed[2], plain[2] * 2)


@pytest.mark.parametrize("name", ["bert-masked-lm", "bert-tokens", "llama-lm", "t5-lm"])
def test_logits_of_some_rows(models: Any, name: str) -> None:
    model, batch = models(name), Batch.from_ids(IDS)
    target = batch if name == "t5-lm" else None
    rows = np.array([0, 3, 5, 7])
    every = model(batch, target)
    some = model(batch, target, logits_at=rows)
    assert_close(some.logits, every.logits[rows])
    assert [len(part) for part in some.split("logits")] == [2, 0, 2]
    assert [len(part) for part in every.split("logits")] == [4, 1, 3]
    for bad in ([3, 3], [5, 3], [-1], [8], []):
        with pytest.raises(InputError, match="logits_at: expected ascending row numbers .* from 0 to 7"):
            model(batch, target, logits_at=np.array(bad))


def test_outputs_without_a_head(models: Any) -> None:
    model = models("bert")
    output = model(Batch.from_ids(IDS))
    assert output.logits is None
    assert output.hidden_states is None
    with pytest.raises(InputError, match="no head"):
        output.split("logits")
    with pytest.raises(InputError, match="expected one of last_hidden_state, logits"):
        output.split("attentions")
    assert repr(model).endswith(f"Encoder, no head, {model.num_parameters:,} parameters>")


def test_token_type_ids_matter(models: Any) -> None:
    model = models("bert")
    one, other = Batch.from_ids([[5, 6]]), Batch.from_ids([[5, 6]], [[0, 1]])
    assert np.abs(model(one).last_hidden_state - model(other).last_hidden_state).max() > 1e-3
    zeros = Batch.from_ids([[5, 6]], [[0, 0]])
    np.testing.assert_array_equal(model(zeros).last_hidden_state, model(one).last_hidden_state)


@pytest.mark.parametrize("name", ["bert", "llama-lm"])
def test_positions_are_those_of_the_batch(models: Any, name: str) -> None:
    model, batch = models(name), Batch.from_ids([[5, 6, 7], [8, 9]])
    expected = model(batch).last_hidden_state
    counted = replace(batch, positions=np.array([0, 1, 2, 0, 1]))
    np.testing.assert_array_equal(model(counted).last_hidden_state, expected)
    spread = model(replace(batch, positions=np.array([0, 2, 4, 0, 1]))).last_hidden_state
    np.testing.assert_array_equal(spread[3:], expected[3:])
    assert np.abs(spread[:3] - expected[:3]).max() > 1e-4
    with pytest.raises(InputError, match="Sequence 1, token 0: position 9999 is outside the context of"):
        model(replace(batch, positions=np.array([0, 1, 2, 9999, 1])))


def test_a_batch_of_another_kind_is_refused(models: Any) -> None:
    batch = Batch.from_ids([[5, 6], [7]])
    positions = replace(batch, positions=np.array([0, 1, 0]))
    with pytest.raises(InputError, match="positions: this model's attention counts distances between rows"):
        models("t5-lm").encode(positions)
    features: dict[str, Any] = {"features": np.zeros((2, 4), np.float32), "feature_rows": np.array([0, 2])}
    with pytest.raises(InputError, match="expected 3 ids and no features, got 3 ids and 2 features"):
        models("bert")(replace(batch, **features))
    with pytest.raises(InputError, match="expected 3 ids and no features, got 0 ids and 2 features"):
        models("bert")(Batch(spans=batch.spans, **features))


@pytest.mark.parametrize(
    ("name", "ids", "segments", "message"),
    [
        ("bert", [[5], [6, 120]], None, r"Sequence 1, token 1: id 120 is outside the vocabulary of 120 entries"),
        ("bert", [[5], [-1]], None, r"Sequence 1, token 0: id -1 is outside"),
        ("bert", [[5]], [[2]], r"token type id 2 is outside the segment table of 2 entries"),
        ("bert", [[5], [5] * 65], None, r"Sequence 1 has 65 tokens, more than the model's context of 64"),
        ("llama-lm", [[5] * 257], None, r"257 tokens, more than the model's context of 256"),
    ],
)
def test_input_that_does_not_fit_is_refused(models: Any, name: str, ids: Any, segments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        models(name)(Batch.from_ids(ids, segments))


def test_the_cache_counts_towards_the_context(models: Any) -> None:
    model = models("llama-lm")
    cache = model.new_cache(1)
    model(Batch.from_ids([[5] * 250]), cache=cache)
    with pytest.raises(InputError, match="has 257 tokens"):
        model(Batch.from_ids([[5] * 7]), cache=cache)
    # The refused step left no trace.
    assert cache.lengths.tolist() == [250]
    model(Batch.from_ids([[5] * 6]), cache=cache)
    with pytest.raises(InputError, match="it holds 1 sequences, but the batch has 2"):
        model(Batch.from_ids([[5], [6]]), cache=cache)


def test_each_form_says_how_it_is_called(models: Any) -> None:
    batch = Batch.from_ids(IDS)
    with pytest.raises(InputError, match="target is missing"):
        models("t5-lm")(batch)
    with pytest.raises(InputError, match="got 3 sources and 1 targets"):
        models("t5-lm")(batch, Batch.from_ids([[1]]))
    with pytest.raises(InputError, match="reads one batch"):
        models("bert")(batch, batch)
    with pytest.raises(InputError, match="this model reads whole sequences"):
        models("bert")(batch, cache=models("llama-lm").new_cache(3))
    with pytest.raises(WrongTaskError, match="encode is for encoder-decoders"):
        models("bert").encode(batch)
    with pytest.raises(InputError, match="scores whole sequences"):
        models("bert-sequence")(batch, logits_at=np.array([0]))


def test_a_model_that_reads_its_source_twice_is_called_with_it_alone(models: Any) -> None:
    model, batch = models("bart-sequence"), Batch.from_ids([[5, 2], [6, 7, 2, 2]])
    with pytest.raises(InputError, match="reads one batch"):
        model(batch, batch)
    with pytest.raises(InputError, match="reads whole sequences, so it keeps no cache"):
        model(batch, cache=model.new_cache(2))
    with pytest.raises(WrongTaskError, match="encode is for encoder-decoders that are given a target"):
        model.encode(batch)
    with pytest.raises(WrongTaskError, match="generate needs a decoder with a language head"):
        model.generate(batch)
    with pytest.raises(InputError, match="Sequence 1 has no id 2, the end of a text, at which this model scores it"):
        model(Batch.from_ids([[5, 2], [6, 7], [2]]))
    with pytest.raises(InputError, match="scores whole sequences"):
        model(batch, logits_at=np.array([0]))


def test_states_can_be_encoded_once(models: Any) -> None:
    model, source, target = models("t5-lm"), Batch.from_ids(IDS), Batch.from_ids([[1], [2, 3], [4]])
    states = model.encode(source)
    assert [len(part) for part in states.split("last_hidden_state")] == [4, 1, 3]
    whole = model(source, target)
    np.testing.assert_array_equal(model(states, target).logits, whole.logits)
    # Two beams of the last source, one of the first, sharing their cross keys.
    beams = model(states.select(np.array([2, 0, 2])), Batch.from_ids([[4], [1], [2, 3]]))
    assert_close(beams.split("logits")[0], whole.split("logits")[2])
    assert_close(beams.split("logits")[1], whole.split("logits")[0])
    again = states.select(np.array([2, 0, 2])).select(np.array([1]))
    assert_close(model(again, Batch.from_ids([[1]])).logits, whole.split("logits")[0])


def test_not_a_number_is_an_error_and_no_answer(tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")

    case = Case(name="nan", model="LlamaForCausalLM", config=BY_NAME["llama-lm"].config, prepare=spoil)
    make_checkpoint(case, tmp_path)
    model = triform.load(tmp_path)
    with pytest.raises(NonFiniteError, match="the result holds NaN or infinity. Check the weights"):
        model(Batch.from_ids(IDS))
    with pytest.raises(NonFiniteError, match="no token can be chosen"):
        model.generate(Batch.from_ids(IDS))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes_round_as_transformers_does(tmp_path: Path, dtype: str) -> None:
    reference = make_checkpoint(BY_NAME["llama-lm"], tmp_path / "float32")
    # Weights in half precision, arithmetic (and rotary frequencies) in float32.
    for parameter in reference.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype)).to(torch.float32)
    model = triform.load(tmp_path / "float32", dtype=dtype)
    batch = Batch.from_ids(IDS)
    for ids, actual in zip(IDS, model(batch).split("logits"), strict=True):
        with torch.no_grad():
            assert_close(actual, reference(torch.tensor([ids])).logits[0])
    model.save(tmp_path / "saved")
    again = triform.load(tmp_path / "saved")
    assert {parameter.format.name for parameter in again.parameters.values()} == {dtype}
    np.testing.assert_array_equal(again(batch).logits, model(batch).logits)
    with pytest.raises(EngineError, match="dtype='int3': the native engine has auto, bfloat16, float16, float32"):
        triform.load(tmp_path / "saved", dtype="int3")


def test_all_places_of_a_norm_in_a_residual() -> None:
    """x ← residual_norm(x + post_norm(core(pre_norm(x))))."""
    engine = create_engine("reference")
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}

    def source(name: str, shape: tuple[int, ...], role: ParameterRole) -> Any:
        arrays[name] = random.standard_normal(shape).astype(np.float32)
        return engine.prepare(name, StoredTensor(arrays[name], Format.FLOAT32), Format.FLOAT32, role)

    norm = RMSNorm(eps=1e-6)
    core = FeedForward(intermediate_size=6, activation=Activation.RELU, bias=False)
    layer = Residual(
        Scope(engine, source),
        ResidualSpec(core=core, pre_norm=norm, post_norm=norm, residual_norm=norm),
        4,
        layer=0,
    )
    batch = Batch.from_ids(IDS)
    x = random.standard_normal((8, 4)).astype(np.float32)

    def normed(x: Any, name: str) -> Any:
        return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6) * arrays[f"feed_forward.{name}.weight"]

    inner = np.maximum(normed(x, "pre_norm") @ arrays["feed_forward.up.weight"].T, 0)
    expected = normed(x + normed(inner @ arrays["feed_forward.down.weight"].T, "post_norm"), "residual_norm")
    assert_close(layer(x, ForwardContext(batch.spans)), expected)
