"""LoRA adapters against PEFT: every supported layout, and every refusal."""

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

import triform
from tests.cli.test_cli import triform_command
from tests.parity.harness import compare, load_reference, random_ids
from tests.weights import CASE, TensorDict, checkpoint, make, read_file, write_file
from triform import spec
from triform.engines import FORMATS, Format
from triform.errors import AdapterWarning, ModelError, UnsupportedModelError, WeightError
from triform.hub import Checkpoint
from triform.weights.adapter import Adapter

FILE = "adapter_model.safetensors"
MODULES = {
    "bert": ["query", "value", "dense"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "llama": ["q_proj", "k_proj", "down_proj"],
    "t5": ["q", "v", "wo"],
}


def adapt(reference: Any, folder: Path, **config: Any) -> Any:
    """Put a random adapter on a model of transformers, save the adapter, and return the adapted model."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about saved embeddings and tied weights
        model = peft.get_peft_model(reference, peft.LoraConfig(**{"r": 4, "lora_alpha": 6, **config}))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad and "magnitude" not in name:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
                elif parameter.requires_grad:
                    parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
        model.save_pretrained(str(folder))
    return model.base_model.model.eval()


def check(name: str, folder: Path, **config: Any) -> triform.Model:
    """Compare a model with a random adapter with the library's model; return the model."""
    reference = adapt(make(name, folder / "base"), folder / "adapter", **config)
    model = triform.load(folder / "base", adapter=folder / "adapter")
    equal(model, reference, name)
    return model


def equal(model: triform.Model, reference: Any, name: str) -> None:
    sources = random_ids(CASE[name], lengths=(7, 1, 12))
    targets = random_ids(CASE[name], lengths=(3, 5, 1), seed=2) if name.startswith("t5") else None
    compare(model, reference, sources, targets)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True, "bias": "lora_only"}], ids=str)
@pytest.mark.parametrize("name", ["bert-masked-lm", "gpt2-lm", "llama-grouped", "t5-lm"])
def test_low_ranks(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = check(name, tmp_path, target_modules=MODULES[name.split("-", 1)[0]], **options)
    plain = triform.load(tmp_path / "base")
    assert set(model.parameters) == set(plain.parameters)
    assert 0 < len(model.blueprint.updates) < len(model.parameters)
    # A saved model is a plain checkpoint without an adapter.
    model.save(tmp_path / "saved")
    again = triform.load(tmp_path / "saved")
    for parameter, value in model.parameters.items():
        np.testing.assert_array_equal(
            again.engine.stored(again.parameters[parameter]).array, model.engine.stored(value).array
        )
    equal(model, load_reference(CASE[name], tmp_path / "saved"), name)


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "patterns": (
        "bert",
        {"target_modules": ["query", "value"], "rank_pattern": {"query": 2}, "alpha_pattern": {r"layer\.1.*value": 16}},
    ),
    "all linears": ("llama", {"target_modules": "all-linear", "init_lora_weights": "gaussian"}),
    "all biases": ("bert-tokens", {"target_modules": ["key"], "bias": "all", "task_type": "TOKEN_CLS"}),
    "all biases of fused tensors": ("gpt2-lm", {"target_modules": ["c_proj"], "bias": "all"}),
    "embedding": ("bert", {"target_modules": ["word_embeddings", "query"]}),
    "embedding with magnitudes": ("bert", {"target_modules": ["word_embeddings"], "use_dora": True}),
    "norms": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm", "input_layernorm"]}),
    "whole linear": ("gpt2", {"target_modules": ["c_proj"], "modules_to_save": ["c_attn"]}),
    "own head": ("llama-lm", {"target_modules": ["lm_head", "embed_tokens"]}),
    "tied embedding": ("llama-lm-tied", {"target_modules": ["q_proj", "embed_tokens"]}),
    "tied head": ("llama-lm-tied", {"target_modules": ["q_proj", "lm_head"]}),
    "tied, in another layout": ("gpt2-lm", {"target_modules": ["c_attn", "wte"]}),
    "tied, one end whole": ("llama-lm-tied", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "tied, both ends whole": (
        "llama-lm-tied",
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    "tied head of an encoder-decoder": ("t5-lm", {"target_modules": ["lm_head", "q"]}),
    "tied, both together": (
        "llama-lm-tied",
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "tied, both with low ranks": (
        "llama-lm-tied",
        {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    ),
    "biases of low ranks": ("bert", {"target_modules": ["query", "dense"], "lora_bias": True}),
    "biases of fused low ranks": ("gpt2-lm", {"target_modules": ["c_attn", "c_proj"], "lora_bias": True}),
    "new rows": ("llama-lm", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 60, 6]}),
    "new rows, tied": ("llama-lm-tied", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 60]}),
    "new rows of both": (
        "llama-lm",
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 6], "lm_head": [7]}},
    ),
    "other rows of both, tied": (
        "llama-lm-tied",
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 6], "lm_head": [7]}},
    ),
    "new rows of words": ("bert", {"target_modules": ["query"], "trainable_token_indices": {"word_embeddings": [9]}}),
    "whole head": ("bert-masked-lm", {"target_modules": ["query"], "modules_to_save": ["cls"]}),
    "answers": ("bert-spans", {"target_modules": ["query"], "task_type": "QUESTION_ANS"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIONS)
def test_options(kind: str, tmp_path: Path) -> None:
    name, options = OPTIONS[kind]
    model = check(name, tmp_path, **options)
    model.save(tmp_path / "saved")
    equal(model, load_reference(CASE[name], tmp_path / "saved"), name)


@pytest.mark.parametrize(
    ("base", "name", "task", "modules"),
    [
        ("bert", "bert-sequence", "SEQ_CLS", ["query"]),
        ("bert-masked-lm", "bert-tokens", "TOKEN_CLS", ["query"]),
        ("gpt2-lm", "gpt2-sequence", "SEQ_CLS", ["c_attn"]),
        ("llama-lm", "llama-sequence", "SEQ_CLS", ["q_proj"]),
    ],
)
def test_a_head_comes_with_the_adapter(base: str, name: str, task: str, modules: list[str], tmp_path: Path) -> None:
    make(base, tmp_path / "base")
    kind, num_labels = getattr(transformers, CASE[name].model), CASE[name].config().num_labels
    reference = kind.from_pretrained(tmp_path / "base", num_labels=num_labels, attn_implementation="eager").eval()
    reference = adapt(reference, tmp_path / "adapter", target_modules=modules, task_type=task)
    model = triform.load(tmp_path / "base", adapter=tmp_path / "adapter")
    equal(model, reference, name)
    assert isinstance(model.spec.head, spec.SequenceHead | spec.TokenHead)
    assert model.spec.head.labels == tuple(reference.config.id2label.values())
    names = {str(number): f"kind {number}" for number in range(num_labels)}
    (tmp_path / "adapter" / "config.json").write_text(json.dumps({"id2label": names}))
    named = triform.load(tmp_path / "base", adapter=tmp_path / "adapter")
    assert isinstance(named.spec.head, spec.SequenceHead | spec.TokenHead)
    assert named.spec.head.labels == tuple(names.values())
    named.save(tmp_path / "saved")
    # Saving keeps the head of the base model, as always.
    saved, info = kind.from_pretrained(tmp_path / "saved", attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"]
    equal(named, saved.eval(), name)
    # A task without a head ignores the stored head.
    assert triform.load(tmp_path / "base", adapter=tmp_path / "adapter", with_head=False).spec.head is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_change_of_half_precision_is_rounded_only_if_asked(dtype: str, tmp_path: Path) -> None:
    reference = make("llama-lm", tmp_path / "base")
    reference.to(getattr(torch, dtype)).save_pretrained(tmp_path / "base")
    reference = load_reference(CASE["llama-lm"], tmp_path / "base")
    reference = adapt(reference, tmp_path / "adapter", target_modules=["q_proj", "up_proj"])
    model = triform.load(tmp_path / "base", adapter=tmp_path / "adapter")
    equal(model, reference, "llama-lm")
    for name, parameter in model.parameters.items():
        assert parameter.format is (Format.FLOAT32 if name in model.blueprint.updates else FORMATS[dtype])
    model.save(tmp_path / "saved")
    equal(model, load_reference(CASE["llama-lm"], tmp_path / "saved"), "llama-lm")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "float32"
    rounded = triform.load(tmp_path / "base", adapter=tmp_path / "adapter", dtype=dtype)
    assert {parameter.format for parameter in rounded.parameters.values()} == {FORMATS[dtype]}
    for name, parameter in rounded.parameters.items():
        exact = torch.from_numpy(np.array(model.engine.stored(model.parameters[name]).array))
        if name in model.blueprint.updates:
            stored = rounded.engine.stored(parameter).array
            assert torch.equal(
                torch.from_numpy(stored.view(np.int16)), exact.to(getattr(torch, dtype)).view(torch.int16)
            )


def change_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def change_tensors(change: Callable[[TensorDict], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = read_file(folder, FILE)
        change(tensors)
        write_file(folder, tensors, FILE)

    return edit


QUERY = "base_model.model.encoder.layer.0.attention.self.query"
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another kind": (change_config(peft_type="IA3"), "peft_type is 'IA3'; expected 'LORA'"),
    "start": (change_config(init_lora_weights="pissa"), "init_lora_weights is 'pissa'; expected True or "),
    "layers": (change_config(layer_replication=[[0, 2]]), r"layer_replication is \[\[0, 2\]\]; expected"),
    "parameters": (change_config(target_parameters=["experts.up"]), "target_parameters is .*; expected"),
    "unknown setting": (change_config(news=1), "does not know these keys(.|\n)*news = 1"),
    "no rank": (change_config(r=0), "r is 0; expected a whole number of at least 1"),
    "pattern": (change_config(rank_pattern={"key": "four"}), "rank_pattern: key is 'four'; expected a whole number"),
    "no pattern": (change_config(rank_pattern={"(": 4}), r"rank_pattern: '\(' cannot be used"),
    "half a group": (change_config(rank_pattern={"(?i)query": 4}), r"rank_pattern: '.*' cannot be used"),
    "repeated too often": (change_config(alpha_pattern={"x{99999999999}": 4}), "alpha_pattern: '.*' cannot be used"),
    "without end": (change_config(rank_pattern={"(([a-z_.0-9])+)+!": 4}), "quantifiers must apply to one character"),
    "many ways": (change_config(rank_pattern={"x?" * 30: 4}), "quantifiers must apply to one character; at most 2"),
    "many patterns": (change_config(rank_pattern={str(n): 4 for n in range(10_001)}), "with at most 10,000 entries"),
    "no switch": (change_config(use_rslora="no"), "use_rslora is 'no'; expected true or false"),
    "enormous": (change_config(lora_alpha=10**400), "lora_alpha is 10+; expected a number above 0 and below"),
    "no ids": (
        change_config(trainable_token_indices={"embed_tokens": [-1]}),
        "trainable_token_indices is .*; expected",
    ),
    "a layer": (
        change_tensors(lambda tensors: [tensors.pop(name) for name in list(tensors) if ".layer.1." in name]),
        r"missing     what encoder.layer.\d.attention.self.query has, of layer 1, though target_modules is",
    ),
    "half of a pair": (
        change_tensors(lambda tensors: tensors.pop(f"{QUERY}.lora_A.weight")),
        r"1 problem\(s\):\n  missing     encoder.layer.0.attention.self.query.lora_A",
    ),
    "misshapen": (
        change_tensors(lambda tensors: tensors.update({f"{QUERY}.lora_A.weight": torch.ones(4, 31)})),
        r"misshapen   .*query.lora_A.weight \[4, 31\], expected \[4, 32\]",
    ),
    "another rank": (change_config(r=3), r"12 problem\(s\):\n(.|\n)*lora_A.weight \[4, 32\], expected \[3, 32\]"),
    "magnitude": (
        change_tensors(lambda tensors: tensors.update({f"{QUERY}.lora_magnitude_vector": torch.ones(32)})),
        "unexpected  .*query.lora_magnitude_vector",
    ),
    "no magnitude": (change_config(use_dora=True), "missing     .*query.lora_magnitude_vector"),
    "integers": (
        change_tensors(
            lambda tensors: tensors.update({f"{QUERY}.lora_A.weight": torch.ones(4, 32, dtype=torch.int64)})
        ),
        "dtype       .*query.lora_A.weight I64",
    ),
    "unknown module": (
        change_tensors(
            lambda tensors: tensors.update(
                {
                    "base_model.model.x.query.lora_A.weight": torch.ones(4, 2),
                    "base_model.model.x.query.lora_B.weight": torch.ones(2, 4),
                }
            )
        ),
        "unexpected  a change of x.query.weight, which this model does not have",
    ),
    "no target": (
        change_config(target_modules=["value"]),
        r"unexpected  encoder.layer.0.attention.self.query, which adapter_config\.json excludes by target_modules",
    ),
    "another layer": (
        change_config(layers_to_transform=[0]),
        r"unexpected  encoder.layer.1.*or the layers",
    ),
    "excluded": (change_config(exclude_modules=["query"]), r"unexpected  encoder.layer.0.attention.self.query, which"),
    "no alpha": (change_config(lora_alpha=None), "lora_alpha is missing; expected a number"),
    "norm": (
        lambda folder: [
            change_config(target_modules=["query", "value", "LayerNorm"])(folder),
            change_tensors(
                lambda tensors: tensors.update(
                    {
                        "base_model.model.embeddings.LayerNorm.lora_A.weight": torch.ones(4, 2),
                        "base_model.model.embeddings.LayerNorm.lora_B.weight": torch.ones(2, 4),
                    }
                )
            )(folder),
        ],
        "unexpected  embeddings.LayerNorm, whose weight is not a matrix",
    ),
    "unknown tensor": (
        change_tensors(lambda tensors: tensors.update({"base_model.model.token_adapter.delta": torch.ones(2)})),
        r"unexpected  base_model.model.token_adapter.delta \[2\]",
    ),
    "unknown whole tensor": (
        change_tensors(lambda tensors: tensors.update({"base_model.model.new.weight": torch.ones(2)})),
        r"unexpected  new.weight \[2\]",
    ),
    "two of one": (
        change_tensors(
            lambda tensors: tensors.update(
                {
                    "base_model.model.pooler.dense.weight": torch.ones(2),
                    "base_model.model.pooler.dense.modules_to_save.weight": torch.zeros(2),
                }
            )
        ),
        "differs     base_model.model.pooler.dense.*from",
    ),
    "pickle": (lambda folder: shutil.move(folder / FILE, folder / "adapter_model.bin"), "triform convert"),
    "cut short": (lambda folder: (folder / FILE).write_bytes(b"12345678"), "damaged or cut short"),
    "no config": (
        lambda folder: (folder / "adapter_config.json").unlink(),
        "has no adapter_config.json, so it is not an adapter",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model and a matching adapter."""
    folder = tmp_path_factory.mktemp("sound")
    adapt(make("bert", folder / "base"), folder / "adapter", target_modules=["query", "value"])
    return folder


@pytest.mark.parametrize("kind", FAULTS)
def test_what_does_not_fit_is_refused_with_all_that_is_wrong(kind: str, sound: Path, tmp_path: Path) -> None:
    spoil, message = FAULTS[kind]
    for path in (sound / "adapter").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path)
    with pytest.raises(ModelError) as raised:
        triform.load(sound / "base", adapter=tmp_path)
    assert re.search(message, str(raised.value)), raised.value
    assert isinstance(raised.value, UnsupportedModelError | WeightError) or kind == "no config"


@pytest.mark.parametrize("setting", [{"layers_to_transform": [0]}, {"target_modules": ".*0.*query"}], ids=str)
def test_an_adapter_for_some_layers(setting: dict[str, Any], tmp_path: Path) -> None:
    check("bert", tmp_path, **{"target_modules": ["query"], **setting})


def test_a_head_that_the_family_lacks_and_a_shared_embedding_are_refused(tmp_path: Path) -> None:
    adapt(make("t5-lm", tmp_path / "base"), tmp_path / "adapter", target_modules=["shared"])
    with pytest.raises(UnsupportedModelError, match="changes a word embedding that encoder and decoder share"):
        triform.load(tmp_path / "base", adapter=tmp_path / "adapter")
    make("marian-lm", tmp_path / "translator")
    change_config(task_type="TOKEN_CLS")(tmp_path / "adapter")
    with pytest.raises(UnsupportedModelError, match="the task needs a TokenHead, which marian does not have"):
        triform.load(tmp_path / "translator", adapter=tmp_path / "adapter")


def test_another_base_model_is_said_where_it_can_be_known(sound: Path) -> None:
    change_config(base_model_name_or_path="org/other")(sound / "adapter")
    adapter = Adapter.open(checkpoint(sound / "adapter"))
    with pytest.warns(AdapterWarning, match="was trained on org/other, not on org/this"):
        adapter.warn_of_other_base(Checkpoint(sound / "base", "org/this", "1" * 40))
    adapter.warn_of_other_base(Checkpoint(sound / "base", "org/other", "1" * 40))
    adapter.warn_of_other_base(checkpoint(sound / "base"))  # a folder's name says nothing


def test_tasks_and_the_command_line_take_an_adapter(minilm: Path, tmp_path: Path) -> None:
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=3)
    adapt(reference, tmp_path / "adapter", target_modules=["query"], task_type="SEQ_CLS")
    classify = triform.pipeline("text-classification", model=minilm, adapter=tmp_path / "adapter")
    [expected] = classify(["A cat sat."])
    assert expected["label"].startswith("LABEL_")
    command = ("run", "text-classification", "A cat sat.", "--model", minilm, "--json")
    for arguments, environment in (
        (("--adapter", tmp_path / "adapter"), {}),
        ((), {"TRIFORM_ADAPTER": str(tmp_path / "adapter")}),
    ):
        code, out, _ = triform_command(*command, *arguments, **environment)
        assert code == 0
        assert json.loads(out)["score"] == pytest.approx(expected["score"], abs=1e-6)
    code, out, _ = triform_command("describe", minilm, "--adapter", tmp_path / "adapter", "--json")
    assert code == 0
    tensors = {parameter["name"]: parameter["tensor"] for parameter in json.loads(out)["parameters"]}
    assert tensors["blocks.0.attention.query.weight"].endswith("query.weight + a change of the adapter")
    assert tensors["classification_head.weight"] == "classifier.weight"
