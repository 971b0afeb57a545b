"""Families: config.json → spec, with the numbers of the reference implementation."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.t5.modeling_t5 import T5Attention

import triform.families
from tests.families.test_config import read
from tests.weights import CASE, make
from triform import spec
from triform.errors import ModelNotFoundError, UnsupportedModelError
from triform.families import Config, built_in_families, find_family
from triform.hub import find_checkpoint
from triform.networks.layers.position import distance_buckets, rotary_frequencies

FOLDER = Path(triform.families.__file__).parent
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPES: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "linear", "factor": 3.0},
    {**LLAMA3, "factor": 8.0, "original_max_position_embeddings": 8192},
    {**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 8192},
    {**LLAMA3, "factor": 7.0, "low_freq_factor": 1.5, "original_max_position_embeddings": 1000},
]
DIMS = (2, 8, 48, 64, 80, 96, 100, 128, 256)
THETAS = (500.0, 10_000.0, 10_000, 500_000.0, 1e6, 123_456.789)


def reference_frequencies(rope: dict[str, Any], dim: int) -> NDArray[np.float32]:
    config = LlamaConfig(
        hidden_size=2 * dim, num_attention_heads=2, head_dim=dim, max_position_embeddings=2**17, rope_parameters=rope
    )
    frequencies: NDArray[np.float32] = LlamaRotaryEmbedding(config).inv_freq.numpy()
    return frequencies


def frequencies(rope: dict[str, Any], dim: int) -> NDArray[np.float32]:
    return rotary_frequencies(Config({"rope_parameters": rope}, "config.json").rotary(dim))


def print_reference_frequencies() -> None:
    """Print the frequencies, in the process started by `portable`."""
    for rope, dim, theta in itertools.product(ROPES, DIMS, THETAS):
        print(json.dumps(reference_frequencies({**rope, "rope_theta": theta}, dim).view(np.uint32).tolist()))


@pytest.fixture(scope="module")
def portable() -> dict[tuple[int, int, float], NDArray[np.float32]]:
    """(rope, dim, theta) → frequencies by torch without vector instructions, since their powers differ by machine."""
    code = "from tests.families.test_families import *; print_reference_frequencies()"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    cases = itertools.product(range(len(ROPES)), DIMS, THETAS)
    lines = [np.array(json.loads(line), np.uint32).view(np.float32) for line in run.stdout.splitlines()]
    return dict(zip(cases, lines, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ROPES)), ids=lambda number: f"{ROPES[number]['rope_type']}-{number}")
def test_rotary_frequencies_are_those_of_transformers_bit_for_bit(number: int, portable: Any) -> None:
    for dim, theta in itertools.product(DIMS, THETAS):
        actual = frequencies({**ROPES[number], "rope_theta": theta}, dim)
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, portable[number, dim, theta], err_msg=f"{dim=} {theta=}")


@pytest.mark.parametrize("rope", ROPES, ids=lambda rope: f"{rope['rope_type']}-{rope.get('factor')}")
def test_rotary_frequencies_are_those_of_transformers_on_this_machine_but_for_rounding(rope: dict[str, Any]) -> None:
    for dim, theta in itertools.product(DIMS, THETAS):
        expected = reference_frequencies({**rope, "rope_theta": theta}, dim)
        actual = frequencies({**rope, "rope_theta": theta}, dim)
        # The ramp of llama3 subtracts numbers that are nearly equal.
        rtol = 2e-6 if rope["rope_type"] == "llama3" else 4e-7
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=0)


@pytest.mark.parametrize("num_buckets", [4, 6, 8, 16, 32, 40, 64, 128])
@pytest.mark.parametrize("is_bidirectional", [True, False], ids=["both ways", "back only"])
def test_distances_fall_into_the_buckets_of_transformers(num_buckets: int, is_bidirectional: bool) -> None:
    distances = np.arange(-2000, 2001)
    for max_distance in (65, 100, 128, 129, 1000, 1024):
        bias = spec.RelativeBias(
            num_buckets=num_buckets, max_distance=max_distance, bidirectional=is_bidirectional, shared=True
        )
        expected = T5Attention._relative_position_bucket(
            torch.from_numpy(distances),
            bidirectional=is_bidirectional,
            num_buckets=num_buckets,
            max_distance=max_distance,
        )
        np.testing.assert_array_equal(distance_buckets(distances, bias), expected.numpy(), err_msg=str(max_distance))


def test_the_families_have_names_of_their_own() -> None:
    families = built_in_families()
    assert len({family.model_type for family in families}) == len(families)
    architectures = [name for family in families for name in family.architectures]
    assert len(set(architectures)) == len(architectures)
    assert {case.model for case in CASE.values()} <= set(architectures)


def test_a_family_is_found_by_the_name_of_its_module() -> None:
    families = built_in_families()
    modules = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    assert [family.model_type.replace("-", "_") for family in families] == modules
    assert all(find_family({"model_type": family.model_type}, "") is family for family in families)


@pytest.mark.parametrize(
    "model_type",
    ["kit", "kit.plugins", "__init__", "bert.FAMILY", "../bert", "xlm_roberta", "Bert", "", None, 3, ["bert"]],
)
def test_another_model_type_is_refused(model_type: object) -> None:
    message = r"config.json: model_type .* is not supported. This version of Triform reads bart, bert, .*, xlm-roberta"
    with pytest.raises(UnsupportedModelError, match=message):
        find_family({"model_type": model_type}, "config.json")


def test_a_model_imports_the_modules_of_its_own_family_alone(tmp_path: Path) -> None:
    make("roberta", tmp_path)
    script = f"""
import sys, triform
families = lambda: sorted(name.split(".")[2] for name in sys.modules if name.startswith("triform.families."))
print(families())
triform.load({str(tmp_path)!r})
print(families())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after = (set(json.loads(line.replace("'", '"'))) for line in done.stdout.splitlines())
    assert before == {"kit"}
    assert after == {"kit", "bert", "roberta"}


def test_a_config_without_architectures_is_the_backbone() -> None:
    for case in ("bert-masked-lm", "llama-lm", "t5-lm"):
        assert read(case, architectures=None).head is None
        assert read(case, architectures=[]).head is None


def test_bert_is_an_encoder_with_norms_on_the_residual() -> None:
    form = read("bert-masked-lm", layer_norm_eps=1e-7).form
    assert isinstance(form, spec.Encoder)
    stack = form.stack
    norm = spec.LayerNorm(eps=1e-7)
    assert stack.embedding.norm == norm
    assert stack.embedding.num_segments == 2
    assert stack.embedding.position == spec.Learned(num_positions=64)
    assert stack.context_length == 64
    assert stack.final_norm is None
    assert len(stack.blocks) == 3
    for block in stack.blocks:
        assert [(step.pre_norm, step.residual_norm) for step in block] == [(None, norm), (None, norm)]
    attention = stack.blocks[0][0].core
    assert isinstance(attention, spec.SelfAttention)
    assert attention.heads.head_dim == 8
    assert attention.rule == spec.ScoreRule(scale=8**-0.5, mask=spec.Bidirectional())


@pytest.mark.parametrize(
    ("case", "biases"), [("llama-lm", set()), ("llama-attention-bias", {"query", "key", "value", "output"})]
)
def test_llama_is_a_decoder_with_norms_before(case: str, biases: set[str]) -> None:
    form = read(case, rms_norm_eps=1e-5, num_key_value_heads=2, head_dim=12).form
    assert isinstance(form, spec.Decoder)
    norm = spec.RMSNorm(eps=1e-5)
    assert form.stack.final_norm == norm
    assert form.stack.context_length == 256
    for block in form.stack.blocks:
        assert [(step.pre_norm, step.residual_norm) for step in block] == [(norm, None), (norm, None)]
    attention = form.stack.blocks[0][0].core
    assert isinstance(attention, spec.SelfAttention)
    assert attention.rule == spec.ScoreRule(scale=12**-0.5, mask=spec.Causal())
    assert (attention.heads.num_attention_heads, attention.heads.num_key_value_heads) == (4, 2)
    assert attention.heads.biases == biases
    assert attention.position == spec.Rotary(dim=12, theta=10_000.0)


def test_t5_has_two_stacks_that_share_the_embedding_and_scale_no_scores() -> None:
    form = read("t5-lm").form
    assert isinstance(form, spec.EncoderDecoder)
    assert form.shares_embedding
    assert (len(form.encoder.blocks), len(form.decoder.blocks)) == (3, 2)
    assert form.encoder.context_length is None
    kinds = [type(step.core) for step in form.decoder.blocks[0]]
    assert kinds == [spec.SelfAttention, spec.CrossAttention, spec.FeedForward]
    for stack, is_bidirectional in ((form.encoder, True), (form.decoder, False)):
        attention = stack.blocks[0][0].core
        assert isinstance(attention, spec.SelfAttention)
        mask = spec.Bidirectional() if is_bidirectional else spec.Causal()
        assert attention.rule == spec.ScoreRule(scale=1.0, mask=mask)
        assert attention.position == spec.RelativeBias(
            num_buckets=8, max_distance=20, bidirectional=is_bidirectional, shared=True
        )


def test_the_decoder_of_t5_is_as_deep_as_the_encoder_unless_the_config_says_so() -> None:
    form = read("t5-lm", num_decoder_layers=None).form
    assert isinstance(form, spec.EncoderDecoder)
    assert len(form.decoder.blocks) == len(form.encoder.blocks) == 3


@pytest.mark.parametrize(
    ("kind", "activation", "is_gated"),
    [
        ("relu", spec.Activation.RELU, False),
        ("gelu", spec.Activation.GELU, False),
        ("gated-gelu", spec.Activation.GELU_TANH, True),
        ("gated-silu", spec.Activation.SILU, True),
        ("gated-gelu_new", spec.Activation.GELU_TANH, True),
    ],
)
def test_the_feed_forward_of_t5_is_what_its_name_says(kind: str, activation: spec.Activation, is_gated: bool) -> None:
    core = read("t5-lm", feed_forward_proj=kind, dense_act_fn=None, is_gated_act=None).input_stack.blocks[0][-1].core
    assert isinstance(core, spec.GatedFeedForward if is_gated else spec.FeedForward)
    assert core.activation is activation


@pytest.mark.parametrize(
    ("changes", "is_scaled"),
    [
        ({"scale_decoder_outputs": None, "tie_word_embeddings": None}, True),
        ({"scale_decoder_outputs": None, "tie_word_embeddings": False}, False),
        ({"scale_decoder_outputs": True, "tie_word_embeddings": False}, True),
        ({"scale_decoder_outputs": False, "tie_word_embeddings": True}, False),
    ],
    ids=str,
)
def test_t5_scales_its_output_if_the_config_says_so_or_else_if_it_is_tied(
    changes: dict[str, Any], is_scaled: bool
) -> None:
    head = read("t5-lm", **changes).head
    assert isinstance(head, spec.LanguageHead)
    assert head.scale == (32**-0.5 if is_scaled else 1.0)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"has no config\.json.*Name the folder that holds config\.json"
    ) as raised:
        find_checkpoint(tmp_path).read_json("config.json")
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000], ids=["cut", "empty", "binary", "deep"])
def test_a_damaged_config_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=r"config\.json is not valid JSON: .*Fetch the file again"):
        find_checkpoint(tmp_path).read_object("config.json")


@pytest.mark.parametrize("content", ["[]", "null", "3"])
def test_a_config_that_is_no_object_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UnsupportedModelError, match=r"config\.json: expected a JSON object, got (list|NoneType|int)"):
        find_checkpoint(tmp_path).read_object("config.json")
