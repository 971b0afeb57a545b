"""Reads of config.json: every key is read, expected or harmless, or an error names the key and the value."""

import json
from typing import Any

import pytest

from tests.weights import CASE
from triform import families, spec
from triform.errors import UnsupportedModelError
from triform.families import Config
from triform.spec import LinearScaling, Llama3Scaling, Rotary

WHERE = "some/folder/config.json"


def config(case: str, **changes: Any) -> dict[str, Any]:
    """Return the config.json of a parity case in the form of transformers, with some keys changed."""
    written: dict[str, Any] = json.loads(CASE[case].config().to_json_string())
    return {**CASE[case].rewrite_config(written), "architectures": [CASE[case].model], **changes}


def read(case: str, **changes: Any) -> spec.Model:
    return families.read_spec(config(case, **changes), WHERE)


def without(case: str, *keys: str) -> spec.Model:
    return families.read_spec({key: value for key, value in config(case).items() if key not in keys}, WHERE)


def refused(case: str, **changes: Any) -> str:
    """Return the message of a refused config, and check the path in the message."""
    with pytest.raises(UnsupportedModelError) as raised:
        read(case, **changes)
    assert WHERE in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("case", CASE)
def test_what_transformers_writes_is_read(case: str) -> None:
    model = CASE[case].model
    has_head = "For" in model or model in ("GPT2LMHeadModel", "MarianMTModel")
    assert (read(case).head is not None) == has_head


@pytest.mark.parametrize("case", ["bert", "llama-lm", "t5-lm"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sliding_window", 4096),
        ("a_key_of_tomorrow", False),
        ("logit_scale", 0.5),
    ],
)
def test_an_unknown_key_is_refused_with_its_value_and_what_to_do(case: str, key: str, value: Any) -> None:
    message = refused(case, **{key: value}, another_key="x")
    assert f"{key} = {value!r}" in message
    assert "another_key = 'x'" in message
    assert "take them out of a copy of the file" in message


@pytest.mark.parametrize("case", ["bert", "llama-lm", "t5-lm"])
def test_an_unknown_key_that_is_null_counts_as_absent(case: str) -> None:
    assert read(case, quantization_config=None, a_key_of_tomorrow=None) == read(case)


OPTIONAL = [
    ("bert", "layer_norm_eps"),
    ("llama-lm", "head_dim"),
    ("llama-lm", "rms_norm_eps"),
    ("llama-lm", "num_key_value_heads"),
    ("llama-lm", "rope_parameters"),
    ("t5-lm", "num_decoder_layers"),
    ("t5-lm", "relative_attention_max_distance"),
    ("bert", "architectures"),
]


@pytest.mark.parametrize(("case", "key"), OPTIONAL)
def test_null_counts_as_absent(case: str, key: str) -> None:
    assert read(case, **{key: None}) == without(case, key)


REQUIRED = [
    ("bert", "hidden_size num_attention_heads max_position_embeddings intermediate_size vocab_size hidden_act"),
    ("bert", "num_hidden_layers type_vocab_size"),
    ("llama-lm", "hidden_size num_attention_heads intermediate_size vocab_size num_hidden_layers"),
    ("t5-lm", "d_model d_kv d_ff num_heads vocab_size"),
]


@pytest.mark.parametrize(("case", "key"), [(case, key) for case, keys in REQUIRED for key in keys.split()])
def test_a_missing_key_is_named_with_what_was_expected(case: str, key: str) -> None:
    for absent in ({}, {key: None}):
        with pytest.raises(UnsupportedModelError, match=f"{WHERE}: {key} is missing; expected a (whole number|string)"):
            families.read_spec({k: v for k, v in config(case).items() if k != key} | absent, WHERE)


@pytest.mark.parametrize("value", [True, False, "32", 32.0, -32, 0, [32], {"size": 32}], ids=repr)
@pytest.mark.parametrize(("case", "key"), [("bert", "hidden_size"), ("llama-lm", "head_dim"), ("t5-lm", "num_layers")])
def test_what_is_no_whole_number_of_at_least_1_is_refused(case: str, key: str, value: Any) -> None:
    assert f"{key} is {value!r}; expected a whole number of at least 1" in refused(case, **{key: value})


@pytest.mark.parametrize(
    ("case", "key", "value", "expected"),
    [
        ("bert", "layer_norm_eps", "1e-12", "a number"),
        ("bert", "layer_norm_eps", True, "a number"),
        ("bert", "hidden_act", 3, "a string"),
        ("bert-masked-lm", "tie_word_embeddings", 1, "true or false"),
        ("bert-masked-lm", "tie_word_embeddings", "false", "true or false"),
        ("llama-lm", "attention_bias", "no", "true or false"),
        ("llama-lm", "rope_parameters", 3, "an object"),
        ("llama-lm", "rope_parameters", [], "an object"),
        ("bert", "architectures", "BertModel", "a list of strings"),
        ("bert", "architectures", [3], "a list of strings"),
        ("bert-tokens", "id2label", ["a", "b"], "an object"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(case: str, key: str, value: Any, expected: str) -> None:
    assert f"{key} is {value!r}; expected {expected}" in refused(case, **{key: value})


INVALID = [
    ("bert", "layer_norm_eps", 10**400),
    ("bert", "layer_norm_eps", float("nan")),
    ("bert", "layer_norm_eps", -1.0),
    ("llama-lm", "head_dim", 5),
    ("llama-lm", "num_key_value_heads", 3),
    ("llama-lm", "rope_parameters", {"rope_type": "linear", "factor": 0.0, "rope_theta": 1e4}),
    ("llama-lm", "rope_parameters", {"rope_type": "default", "rope_theta": -5.0}),
    ("t5-lm", "relative_attention_num_buckets", 2),
    ("t5-lm", "relative_attention_max_distance", 1),
]


@pytest.mark.parametrize(("case", "key", "value"), INVALID, ids=lambda value: str(value)[:20])
def test_numbers_that_no_model_can_have_are_refused(case: str, key: str, value: Any) -> None:
    refused(case, **{key: value})


def test_heads_must_divide_the_hidden_size() -> None:
    assert "hidden_size is 32; expected a multiple of num_attention_heads, which is 5" in refused(
        "bert", num_attention_heads=5
    )


@pytest.mark.parametrize(
    ("case", "key", "value", "allowed"),
    [
        ("bert", "position_embedding_type", "relative_key", "'absolute'"),
        ("bert", "position_embedding_type", "relative_key_query", "'absolute'"),
        ("bert", "is_decoder", True, "False"),
        ("bert", "add_cross_attention", True, "False"),
        ("llama-lm", "is_encoder_decoder", True, "False"),
        ("t5-lm", "is_decoder", True, "False"),
    ],
)
def test_a_value_that_is_not_implemented_is_refused(case: str, key: str, value: Any, allowed: str) -> None:
    assert f"{key} is {value!r}; expected {allowed}, which is all that Triform implements" in refused(
        case, **{key: value}
    )
    assert read(case, **{key: None}) == read(case)


@pytest.mark.parametrize("model_type", ["falcon", "BERT", None, 3, ["bert"]], ids=repr)
def test_an_unsupported_model_type_is_refused_with_the_supported_ones(model_type: Any) -> None:
    message = refused("bert", model_type=model_type)
    assert f"model_type {model_type!r} is not supported" in message
    assert "reads bart, bert, distilbert" in message


@pytest.mark.parametrize("case", ["bert", "llama-lm", "t5-lm"])
def test_an_unsupported_architecture_is_refused_with_the_supported_ones(case: str) -> None:
    message = refused(case, architectures=["SomethingForVision"])
    assert "architecture 'SomethingForVision' is not supported" in message
    assert CASE[case].model in message
    # The backbone remains readable.
    assert families.read_spec(config(case, architectures=["SomethingForVision"]), WHERE, with_head=False).head is None


@pytest.mark.parametrize("activation", ["gelu_10", "", "GELU"])
def test_an_unknown_activation_is_refused_with_the_known_ones(activation: str) -> None:
    message = refused("bert", hidden_act=activation)
    assert f"hidden_act is {activation!r}; expected one of gelu, gelu_new" in message


@pytest.mark.parametrize("kind", ["gated-gelu_10", "mish"])
def test_an_unknown_feed_forward_of_t5_is_refused(kind: str) -> None:
    assert f"feed_forward_proj is {kind!r}; expected one of gelu, gelu_new" in refused("t5-lm", feed_forward_proj=kind)


def test_two_names_of_one_setting_must_agree() -> None:
    assert (
        "dense_act_fn is 'relu'; expected 'silu' by feed_forward_proj, which is 'gated-silu'; correct one"
        in refused("t5-lm", feed_forward_proj="gated-silu")
    )
    message = refused("t5-lm", feed_forward_proj="gated-silu", dense_act_fn="silu")
    assert "is_gated_act is False; expected True by feed_forward_proj" in message
    assert "num_hidden_layers is 7; expected 3 by encoder_layers, which is 3" in refused("bart-lm", num_hidden_layers=7)
    assert "num_labels is 7; expected 5 by id2label" in refused("bert-tokens", num_labels=7)
    message = refused("qwen2-window", use_sliding_window=False)
    assert "layer_types is ['full_attention', 'sliding_attention'" in message


def head_labels(model: spec.Model) -> tuple[str, ...]:
    assert isinstance(model.head, spec.TokenHead | spec.SequenceHead)
    return model.head.labels


@pytest.mark.parametrize("case", ["bert-tokens", "bert-sequence", "llama-tokens", "t5-tokens"])
def test_labels_are_in_the_order_of_their_numbers(case: str) -> None:
    id2label = {str(number): f"L{number}" for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    assert head_labels(read(case, id2label=id2label)) == tuple(f"L{number}" for number in range(11))


def test_labels_without_names_are_numbered() -> None:
    assert head_labels(read("bert-tokens", id2label=None)) == ("LABEL_0", "LABEL_1")
    assert head_labels(read("bert-tokens", id2label=None, num_labels=3)) == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize("numbers", [(0, 2), (1, 2), (-1, 0)], ids=str)
def test_labels_with_holes_are_refused(numbers: tuple[int, ...]) -> None:
    missing = next(number for number in range(3) if number not in numbers)
    message = refused("bert-tokens", id2label={str(number): "x" for number in numbers})
    assert f"id2label has 2 entries but none for '{missing}'; expected 0, 1, 2" in message


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, spec.Problem.SINGLE_LABEL),
        ({"problem_type": "multi_label_classification"}, spec.Problem.MULTI_LABEL),
        ({"problem_type": "regression"}, spec.Problem.REGRESSION),
        ({"id2label": {"0": "only"}}, spec.Problem.MULTI_LABEL),
    ],
)
def test_the_problem_is_what_the_config_says_or_follows_from_the_labels(
    changes: dict[str, Any], problem: spec.Problem
) -> None:
    head = read("bert-sequence", **changes).head
    assert isinstance(head, spec.SequenceHead)
    assert head.problem is problem


def test_an_unknown_problem_is_refused() -> None:
    assert "problem_type is 'ranking'; expected one of single_label" in refused("bert-sequence", problem_type="ranking")


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3_SCALING = Llama3Scaling(factor=8, low_freq_factor=1, high_freq_factor=4, original_context_length=32)


@pytest.mark.parametrize("layout", ["rope_parameters", "rope_scaling", "rope_scaling with type"])
@pytest.mark.parametrize(
    ("kind", "values", "scaling"),
    [
        ("default", {}, None),
        ("linear", {"factor": 2}, LinearScaling(factor=2)),
        ("llama3", LLAMA3, LLAMA3_SCALING),
    ],
)
def test_rotary_positions_are_read_in_every_layout(layout: str, kind: str, values: Any, scaling: Any) -> None:
    if layout == "rope_parameters":
        content: Any = {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0, **values}}
    else:
        key = "type" if layout.endswith("type") else "rope_type"
        content = {"rope_theta": 500, "rope_scaling": {key: kind, **values}}
    assert Config(content, WHERE).rotary(8) == Rotary(dim=8, theta=500, scaling=scaling)


def test_rotary_positions_have_the_defaults_of_the_field() -> None:
    for content in ({}, {"rope_scaling": None}, {"rope_parameters": None, "rope_theta": None}):
        assert Config(content, WHERE).rotary(8) == Rotary(dim=8, theta=10_000)


def test_the_context_before_scaling_defaults_to_that_of_the_model() -> None:
    values = {key: value for key, value in LLAMA3.items() if key != "original_max_position_embeddings"}
    content: dict[str, Any] = {"rope_parameters": {"rope_type": "llama3", **values}}
    scaling = Config(content | {"max_position_embeddings": 99}, WHERE).rotary(8).scaling
    assert isinstance(scaling, Llama3Scaling)
    assert scaling.original_context_length == 99
    with pytest.raises(UnsupportedModelError, match="rope_parameters: original_max_position_embeddings is missing"):
        Config(content, WHERE).rotary(8)


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope", "su", ""])
@pytest.mark.parametrize("layout", ["rope_parameters", "rope_scaling"])
def test_an_unknown_kind_of_rotary_positions_is_refused(layout: str, kind: str) -> None:
    changes = {"rope_parameters": None, layout: {"rope_type": kind, "factor": 2.0}}
    expected = f"{layout}: rope_type is {kind!r}; expected default, linear or llama3"
    assert expected in refused("llama-lm", **changes)


@pytest.mark.parametrize("layout", ["rope_parameters", "rope_scaling"])
def test_an_unknown_key_of_rotary_positions_is_refused(layout: str) -> None:
    rope = {"rope_type": "default", "partial_rotary_factor": 0.5}
    message = refused("llama-lm", **{"rope_parameters": None, layout: rope})
    assert f"{layout}: Triform does not know these keys" in message
    assert "partial_rotary_factor = 0.5" in message


def test_a_scaling_without_its_factor_is_refused() -> None:
    assert "rope_parameters: factor is missing" in refused("llama-lm", rope_parameters={"rope_type": "linear"})


def test_a_padding_id_that_leaves_no_position_is_refused() -> None:
    assert "pad_token_id is 63; expected less than 63" in refused(
        "roberta-masked-lm", max_position_embeddings=64, pad_token_id=63
    )
    assert read("roberta-masked-lm", max_position_embeddings=64, pad_token_id=62).input_stack.context_length == 1


@pytest.mark.parametrize("label2id", [{"A": 1, "b": 0}, {"a": 2}, {"b": "0"}])
def test_labels_that_contradict_each_other_are_refused(label2id: dict[str, Any]) -> None:
    message = refused("bert-tokens", id2label={"0": "a", "1": "b", "2": "c"}, label2id=label2id)
    assert "label2id says that" in message
    assert "and id2label that it is" in message


@pytest.mark.parametrize("label2id", [None, {}, {"a": 0}, {"a": "0", "B": 1}, {"LABEL_0": 1}, {"x": 2, "y": 0}])
def test_labels_may_be_partial(label2id: dict[str, Any] | None) -> None:
    labels = {"0": "a", "1": "b", "2": "x"}
    assert head_labels(read("bert-tokens", id2label=labels, label2id=label2id)) == ("a", "b", "x")


def test_keys_that_tell_nothing_of_a_model_are_accepted() -> None:
    notes = {"language": "english", "name": "Bert", "eos_token_ids": 0, "xla_device": True, "max_sequence_length": 2048}
    empty: dict[str, Any] = {"pruned_heads": {}, "adapters": {}, "auto_map": {}}
    code = {"auto_map": {"AutoModel": "modeling.Model"}, "tie_encoder_decoder": False, "_attn_implementation": "eager"}
    for extra in (notes, empty, code):
        assert read("bert", **extra) == read("bert")
    for key, value in (("pruned_heads", {"0": [1]}), ("tie_encoder_decoder", True), ("adapters", {"a": 1})):
        assert key in refused("bert", **{key: value})
