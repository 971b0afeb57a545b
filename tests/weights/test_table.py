"""Weight tables, read both ways."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from tests.parity.cases import CASES
from tests.parity.harness import Case
from tests.weights import CASE, checkpoint
from triform import families, spec
from triform.engines import Format, StoredTensor, create_engine
from triform.families import bert, t5
from triform.networks import declare
from triform.weights import (
    Rename,
    SliceStep,
    Split,
    Stack,
    TensorSlice,
    Transpose,
    WeightTable,
    join_slices,
    match_tensors,
    open_tensors,
    write_tensors,
)

PARTS = st.text(st.characters(exclude_characters=".*#", exclude_categories=["Cs"]), min_size=1, max_size=6)
FILLINGS = st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1, max_size=6)
STARS = ("{0}.*.{1}", "*.{0}", "{0}.*", "{0}.*.{1}.*", "{0}_*.{1}*", "*")


def resolve(case: Case) -> tuple[spec.Model, WeightTable, dict[str, tuple[int, ...]]]:
    """Resolve the spec, the table and the parameters of a case from the config alone."""
    written: dict[str, Any] = json.loads(case.config().to_json_string())
    config = case.rewrite_config({**written, "architectures": [case.model]})
    model = families.read_spec(config, "config.json")
    declared = declare(model, create_engine("reference"))
    shapes = {name: parameter.shape for name, parameter in declared.items()}
    return model, families.find_family(config, "").weights(model), shapes


def canonical_of(rules: Rename | WeightTable, name: str) -> list[str]:
    return [canonical for canonical, _ in rules.to_canonical(name)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_parameter_finds_back_to_itself(case: Case) -> None:
    _, table, shapes = resolve(case)
    assert shapes
    for prefix in (table.prefix, ""):
        exported = {canonical: table.to_checkpoint(canonical, prefix=prefix) for canonical in shapes}
        assert len(set(exported.values())) == len(shapes), "two parameters share a name"
        for canonical, target in exported.items():
            wanted = [(found, source) for found, source in table.to_canonical(target.tensor) if found in shapes]
            assert (canonical, target) in wanted
            assert len(wanted) == math.prod(step.num_parts for step in target.steps), target


@pytest.mark.parametrize("name", ["bert-masked-lm", "llama-lm", "t5-lm", "t5-v1.1", "t5-encoder", "llama-sequence"])
def test_exported_names_are_those_of_transformers(name: str) -> None:
    case = CASE[name]
    _, table, shapes = resolve(case)
    prefix = "" if case.model.startswith("T5") else table.prefix
    exported = {table.to_checkpoint(canonical, prefix=prefix).tensor: shape for canonical, shape in shapes.items()}
    reference = getattr(transformers, case.model)(case.config())
    theirs = {key: tuple(tensor.shape) for key, tensor in reference.state_dict().items()}
    assert exported.items() <= theirs.items()


@given(st.sampled_from(STARS), st.data())
def test_a_rename_with_stars_reads_both_ways(pattern: str, data: st.DataObject) -> None:
    theirs = pattern.format(data.draw(PARTS), data.draw(PARTS))
    ours = data.draw(st.sampled_from([p for p in STARS if p.count("*") == pattern.count("*")]))
    rename = Rename(theirs, ours.format(data.draw(PARTS), data.draw(PARTS)))
    # Between dots there may be anything but a dot, signs that mean something in a regular expression included.
    fillings = [data.draw(FILLINGS) for _ in range(theirs.count("*"))]
    values = iter(fillings)
    name = "".join(next(values) if letter == "*" else letter for letter in theirs)
    [canonical] = canonical_of(rename, name)
    back = rename.to_checkpoint(canonical)
    assert back is not None
    assert canonical_of(rename, back.tensor) == [canonical]


@given(FILLINGS, FILLINGS, FILLINGS)
def test_a_star_stands_for_exactly_one_part(first: str, second: str, third: str) -> None:
    rename = Rename("layer.*.weight", "blocks.*.linear.weight")
    assert canonical_of(rename, f"layer.{first}.weight") == [f"blocks.{first}.linear.weight"]
    assert rename.to_checkpoint(f"blocks.{first}.linear.weight") == TensorSlice(f"layer.{first}.weight")
    assert canonical_of(rename, f"layer.{first}.{second}.weight") == []
    assert canonical_of(rename, f"layer.{first}.weight.{third}") == []
    assert canonical_of(rename, f"{third}.layer.{first}.weight") == []
    assert canonical_of(rename, "layer..weight") == []


def test_dots_in_a_pattern_are_dots() -> None:
    assert canonical_of(Rename("a.weight", "b"), "aXweight") == []


def test_a_number_counts_the_arrays_of_a_stack() -> None:
    rule = Rename("layers.*.experts", "blocks.*.experts.#.up", layout=(Stack(12),))
    names = canonical_of(rule, "layers.3.experts")
    assert names == [f"blocks.3.experts.{number}.up" for number in range(12)]
    assert [rule.to_checkpoint(name) for name in names] == [
        TensorSlice("layers.3.experts", (Stack(12, part=number),)) for number in range(12)
    ]
    for name in ("12", "01", "-1", "x", ""):
        assert rule.to_checkpoint(f"blocks.3.experts.{name}.up") is None


def test_stars_keep_their_order() -> None:
    rename = Rename("a.*.b.*", "x.*.*")
    assert canonical_of(rename, "a.1.b.2") == ["x.1.2"]
    assert rename.to_checkpoint("x.1.2") == TensorSlice("a.1.b.2")


def test_a_rename_that_cannot_be_reversed_is_a_mistake_of_the_programmer() -> None:
    layouts: list[tuple[tuple[str, ...], tuple[SliceStep, ...]]] = [
        (("a.*", "b"), ()),
        (("a.*", "b.*", "c.*"), ()),
        (("a.*", "b.*", "c.*"), (Split((1, 1, 1)),)),
        (("a.*", "b.*"), (Stack(2),)),
        (("a.*", "b.#.*"), ()),
        (("a.*", "b.#.*", "c.*"), (Stack(2), Split((1, 1)))),
    ]
    for names, layout in layouts:
        with pytest.raises(AssertionError, match="cannot be reversed"):
            Rename(*names, layout=layout)


def test_old_names_are_known_and_new_ones_written() -> None:
    model, table, _ = resolve(CASE["bert"])
    assert bert.weights(model) == table
    for prefix in ("", "bert."):
        for old, new in (("gamma", "weight"), ("beta", "bias")):
            canonical = f"embedding.norm.{new}"
            assert canonical in canonical_of(table, f"{prefix}embeddings.LayerNorm.{old}")
            assert table.to_checkpoint(canonical, prefix=prefix) == TensorSlice(f"{prefix}embeddings.LayerNorm.{new}")


@pytest.mark.parametrize(
    ("case", "ignored", "not_ignored"),
    [
        ("bert", ["bert.embeddings.position_ids", "embeddings.position_ids", "cls.seq_relationship.bias"], "cls.x"),
        ("llama", ["model.layers.3.self_attn.rotary_emb.inv_freq"], "model.layers.3.self_attn.rotary_emb.freq"),
        ("t5", ["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"], "decoder.block.0.x"),
        ("t5-encoder", ["decoder.block.0.layer.0.SelfAttention.q.weight", "decoder.final_layer_norm.weight"], "x"),
    ],
)
def test_buffers_and_what_the_form_lacks_are_ignored(case: str, ignored: list[str], not_ignored: str) -> None:
    _, table, _ = resolve(CASE[case])
    assert all(table.is_ignored(name) for name in ignored)
    assert not table.is_ignored(not_ignored)


def test_the_word_embedding_of_t5_has_three_names_and_is_written_under_the_shared_one() -> None:
    model, table, _ = resolve(CASE["t5-lm"])
    assert t5.weights(model) == table
    for name in ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        assert canonical_of(table, name) == ["encoder.embedding.word.weight"]
    assert table.to_checkpoint("encoder.embedding.word.weight", prefix="") == TensorSlice("shared.weight")


@pytest.mark.parametrize("prefixed", [True, False])
def test_a_written_checkpoint_matches_again(prefixed: bool, tmp_path: Path) -> None:
    _, table, shapes = resolve(CASE["bert"])
    prefix = table.prefix if prefixed else ""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    written = {
        table.to_checkpoint(name, prefix=prefix).tensor: StoredTensor(array, Format.FLOAT32)
        for name, array in arrays.items()
    }
    write_tensors(tmp_path, written)
    assignment = match_tensors(shapes, table, open_tensors(checkpoint(tmp_path)))
    assert assignment.prefix == prefix
    assert assignment.unused == ()
    assert set(assignment.sources) == set(shapes)


def test_a_tensor_of_several_parameters_stored_the_other_way_round_reads_both_ways() -> None:
    layout = (Transpose(), Split((1, 1, 1)))
    rule = Rename("h.*.attn.c_attn.*", "blocks.*.query.*", "blocks.*.key.*", "blocks.*.value.*", layout=layout)
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)  # (in, out)
    found = dict(rule.to_canonical("h.3.attn.c_attn.weight"))
    assert list(found) == ["blocks.3.query.weight", "blocks.3.key.weight", "blocks.3.value.weight"]
    assert [source.part_shape(whole.shape) for source in found.values()] == [(2, 4)] * 3
    parts = {source: source.cut(whole) for source in found.values()}
    np.testing.assert_array_equal(parts[found["blocks.3.key.weight"]], whole[:, 2:4].T)
    np.testing.assert_array_equal(join_slices(parts), whole)
    assert all(np.shares_memory(part, whole) for part in parts.values())
    assert all(rule.to_checkpoint(name) == source for name, source in found.items())
    bias = np.arange(6, dtype=np.float32)
    thirds = {source: source.cut(bias) for _, source in rule.to_canonical("h.3.attn.c_attn.bias")}
    assert [third.tolist() for third in thirds.values()] == [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_array_equal(join_slices(thirds), bias)


def test_a_stack_of_one_is_a_vector() -> None:
    rule = Rename("final_logits_bias", "language_head.bias", layout=(Stack(1),))
    [(_, source)] = rule.to_canonical("final_logits_bias")
    row = np.arange(5, dtype=np.float32)[None]
    assert source.part_shape((1, 5)) == (5,)
    assert source.part_shape((2, 5)) is None
    assert source.cut(row).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(join_slices({source: source.cut(row)}), row)
