"""Matching of tensors and parameters: old and new names, prefixes, and all problems in a single error."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

import triform
from tests.parity.harness import compare, load_reference, random_ids
from tests.weights import CASE, TensorDict, edit_config, edit_tensors, make, read_file, write_file
from triform import spec
from triform.errors import WeightError
from triform.model import read_blueprint

LENGTHS = (5, 1, 9)


def assert_equals_reference(name: str, folder: Path) -> None:
    """Compare the model in the folder with the model read by transformers."""
    case = CASE[name]
    reference = getattr(transformers, case.model).from_pretrained(folder, dtype=torch.float32)
    sources = random_ids(case, lengths=LENGTHS)
    model = triform.load(folder)
    targets = (
        random_ids(case, lengths=LENGTHS[::-1], seed=2) if isinstance(model.spec.form, spec.EncoderDecoder) else None
    )
    compare(model, reference.eval(), sources, targets)


def rename(tensors: TensorDict, change: Callable[[str], str]) -> None:
    renamed = {change(name): tensor for name, tensor in tensors.items()}
    tensors.clear()
    tensors.update(renamed)


def test_all_problems_are_listed_in_one_error(tmp_path: Path) -> None:
    make("bert", tmp_path)

    def damage(tensors: TensorDict) -> None:
        del tensors["embeddings.token_type_embeddings.weight"], tensors["encoder.layer.1.output.dense.weight"]
        tensors["adapter.weight"] = torch.zeros(3, 5)
        tensors["encoder.layer.7.output.dense.bias"] = torch.zeros(32)
        tensors["encoder.layer.0.intermediate.dense.weight"] = torch.zeros(32, 48)
        tensors["embeddings.LayerNorm.bias"] = torch.zeros(32, dtype=torch.int64)
        tensors["embeddings.LayerNorm.weight"] = torch.zeros(32, dtype=torch.float64)

    edit_tensors(tmp_path, damage)
    with pytest.raises(WeightError, match=r"does not fit the model; 7 problem\(s\)") as raised:
        read_blueprint(tmp_path, with_head=False)
    lines = [" ".join(line.split()) for line in str(raised.value).splitlines()[1:-1]]
    known = "expected one of F32, F16, BF16"
    assert lines == [
        f"dtype embeddings.LayerNorm.bias I64, {known}",
        f"dtype embeddings.LayerNorm.weight F64, {known}",
        "misshapen encoder.layer.0.intermediate.dense.weight [32, 48], expected [48, 32]",
        "missing embeddings.token_type_embeddings.weight [2, 32] for embedding.segment.weight",
        "missing encoder.layer.1.output.dense.weight [32, 48] for blocks.1.feed_forward.down.weight",
        "unexpected adapter.weight [3, 5]",
        "unexpected encoder.layer.7.output.dense.bias [32]",
    ]
    assert "config.json describes: do the config and the weights belong together?" in str(raised.value)


@pytest.mark.parametrize("name", ["bert-masked-lm", "llama-lm", "t5-lm"])
def test_a_missing_tensor_is_named_as_this_checkpoint_would_name_it(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    missing = sorted(read_file(tmp_path))[3]
    edit_tensors(tmp_path, lambda tensors: tensors.pop(missing))
    with pytest.raises(WeightError, match=rf"missing +{missing} "):
        read_blueprint(tmp_path)


@pytest.mark.parametrize("name", ["bert-masked-lm", "bert-sequence", "bert-tokens"])
def test_old_names_of_norms_are_read(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def age(key: str) -> str:
        for new, before in old.items():
            key = key.replace(new, before)
        return key

    changed = edit_tensors(tmp_path, lambda tensors: rename(tensors, age))
    assert any(key.endswith("gamma") for key in changed)
    assert_equals_reference(name, tmp_path)


def test_buffers_are_left_alone(tmp_path: Path) -> None:
    made = tmp_path / "made"
    make("bert-masked-lm", made)
    edit_tensors(made, lambda t: t.update({"bert.embeddings.position_ids": torch.arange(64)[None]}))
    assert read_blueprint(made).assignment.unused == ("bert.embeddings.position_ids",)
    assert_equals_reference("bert-masked-lm", made)
    triform.load(made).save(tmp_path / "saved")
    load_reference(CASE["bert-masked-lm"], tmp_path / "saved")


def test_rotary_buffers_are_left_alone(tmp_path: Path) -> None:
    make("llama-lm", tmp_path)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_tensors(tmp_path, lambda tensors: tensors.update({name: torch.ones(4)}))
    assert read_blueprint(tmp_path).assignment.unused == (name,)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_backbone_is_read_with_its_prefix_and_without(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    prefix = {"bert": "bert.", "llama": "model."}[name]
    assert read_blueprint(tmp_path).assignment.prefix == ""
    edit_tensors(tmp_path, lambda tensors: rename(tensors, lambda key: prefix + key))
    assert read_blueprint(tmp_path).assignment.prefix == prefix
    assert_equals_reference(name, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "llama-lm",
        ("bert-masked-lm"),
        ("bert-tokens"),
        ("llama-sequence"),
        ("t5-tokens"),
    ],
)
def test_the_backbone_of_a_checkpoint_with_a_head_leaves_the_head_unused(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    blueprint = read_blueprint(tmp_path, with_head=False)
    assert blueprint.spec.head is None
    heads = {key for key in blueprint.tensors if key.startswith(("cls.", "classifier.", "lm_head.", "score."))}
    assert heads
    assert heads <= set(blueprint.assignment.unused)
    assert set(blueprint.tensors) == set(blueprint.assignment.unused) | {
        source.tensor for source in blueprint.assignment.sources.values()
    }


def test_every_tensor_is_accounted_for_once_in_pretraining_of_bert(tmp_path: Path) -> None:
    model = transformers.BertForPreTraining(CASE["bert"].config())
    model.save_pretrained(tmp_path)
    blueprint = read_blueprint(tmp_path)
    assert isinstance(blueprint.spec.head, spec.LanguageHead)
    assert {"cls.seq_relationship.weight", "cls.seq_relationship.bias"} <= set(blueprint.assignment.unused)
    assert {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} <= set(blueprint.assignment.unused)
    assert sorted(
        (*blueprint.assignment.unused, *(source.tensor for source in blueprint.assignment.sources.values()))
    ) == sorted(blueprint.tensors)


COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


@pytest.mark.parametrize("copies", [COPIES[:1], COPIES], ids=len)
def test_equal_copies_of_the_word_embedding_of_t5_are_one_parameter(copies: tuple[str, ...], tmp_path: Path) -> None:
    make("t5-lm", tmp_path)
    edit_tensors(tmp_path, lambda t: t.update({copy: t["shared.weight"].clone() for copy in copies}))
    blueprint = read_blueprint(tmp_path)
    assert blueprint.assignment.sources["encoder.embedding.word.weight"].tensor == "shared.weight"
    assert sorted(blueprint.assignment.unused) == sorted(copies)
    assert isinstance(blueprint.spec.head, spec.LanguageHead)
    assert blueprint.spec.head.tied
    assert_equals_reference("t5-lm", tmp_path)


@pytest.mark.parametrize("copy", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_a_copy_that_differs_is_refused(copy: str, tmp_path: Path) -> None:
    make("t5-lm", tmp_path)

    def differ(tensors: TensorDict) -> None:
        tensors[copy] = tensors["shared.weight"].clone()
        tensors[copy][5, 5] += 1

    edit_tensors(tmp_path, differ)
    with pytest.raises(WeightError, match=rf"differs +{copy} from shared\.weight"):
        read_blueprint(tmp_path)


def test_a_copy_stands_in_for_a_shared_embedding_that_is_missing(tmp_path: Path) -> None:
    make("t5-lm", tmp_path)
    edit_tensors(tmp_path, lambda t: t.update({"encoder.embed_tokens.weight": t.pop("shared.weight")}))
    assert (
        read_blueprint(tmp_path).assignment.sources["encoder.embedding.word.weight"].tensor
        == "encoder.embed_tokens.weight"
    )


OWN_HEAD = {
    "llama-lm-tied": "lm_head.weight",
    "t5-lm": "lm_head.weight",
    "bert-masked-lm": "cls.predictions.decoder.weight",
}


@pytest.mark.parametrize("name", OWN_HEAD)
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "equal"])
def test_a_head_is_tied_unless_the_checkpoint_brings_one_that_differs(name: str, is_own: bool, tmp_path: Path) -> None:
    make(name, tmp_path)
    words = {"t5-lm": "shared.weight", "llama-lm-tied": "model.embed_tokens.weight"}
    word = words.get(name, "bert.embeddings.word_embeddings.weight")

    def add(tensors: TensorDict) -> None:
        tensors[OWN_HEAD[name]] = torch.randn(tensors[word].shape) / 6 if is_own else tensors[word].clone()
        if name == "bert-masked-lm":
            tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()

    edit_tensors(tmp_path, add)
    head = read_blueprint(tmp_path).spec.head
    assert isinstance(head, spec.LanguageHead)
    assert head.tied is not is_own
    assert_equals_reference(name, tmp_path)


def test_an_own_head_of_bert_may_have_its_bias_under_the_old_name(tmp_path: Path) -> None:
    make("bert-masked-lm", tmp_path)
    own = {"cls.predictions.decoder.weight": torch.randn(120, 32) / 6}
    assert "cls.predictions.bias" in edit_tensors(tmp_path, lambda tensors: tensors.update(own))
    assert_equals_reference("bert-masked-lm", tmp_path)


def test_an_untied_head_that_is_missing_is_an_error_as_it_cannot_be_guessed(tmp_path: Path) -> None:
    make("llama-lm-tied", tmp_path)
    edit_config(tmp_path, tie_word_embeddings=False)
    with pytest.raises(WeightError, match=r"1 problem.*\n +missing +lm_head\.weight \[120, 32\]"):
        read_blueprint(tmp_path)


def test_a_sharded_checkpoint_is_matched_as_a_whole(tmp_path: Path) -> None:
    reference = make("llama-lm", tmp_path / "made")
    reference.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len({info.file for info in read_blueprint(tmp_path / "shards").tensors.values()}) > 2
    assert_equals_reference("llama-lm", tmp_path / "shards")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_tensors_of_mixed_formats_are_read_each_as_it_is(dtype: torch.dtype, tmp_path: Path) -> None:
    make("bert", tmp_path)
    tensors = {name: t.to(dtype) if t.dim() == 2 else t for name, t in read_file(tmp_path).items()}
    write_file(tmp_path, tensors)
    model = triform.load(tmp_path)
    formats = {model.parameters[name].format.name for name in model.parameters}
    assert formats == {"float32", str(dtype).removeprefix("torch.")}
    assert_equals_reference("bert", tmp_path)
