"""Low-rank adaptation beside PEFT: the same gradients, the same files, the same answers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

import triform
from tests.parity.cases import CASES
from tests.parity.harness import Case, make_checkpoint, random_inputs
from tests.training.test_gradients import ours, theirs
from triform import spec
from triform.errors import InputError
from triform.model import Model, NewHead, load_for_training
from triform.model.trainable import trainable_parameters
from triform.training.lora import merge_lora, save_adapter, with_lora
from triform.weights import Flatten, Rename

BY_NAME = {case.name: case for case in CASES}
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("bert-masked-lm", {}),
    ("roberta-sequence", {"targets": ["*.feed_forward.up", "blocks.1.attention.*"], "rank": 3}),
    ("t5-lm", {"targets": ["*attention.value"], "alpha": 5}),
    ("bart-lm", {"targets": ["*"], "rank": 2}),
    ("gpt2-lm", {"targets": ["*.attention.value", "blocks.0.attention.query", "*.up"]}),
    ("gpt2-lm", {"targets": ["*.attention.key"]}),
    ("llama-grouped", {"targets": ["*"], "rank": 4, "trained": ["final_norm.weight", "language_head.weight"]}),
]


def shaken(model: Model, seed: int = 5) -> Model:
    """Move every trained parameter, as training would: B is no longer 0, and whole weights change too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for own in trainable_parameters(model).values():
            own.add_(torch.randn(own.shape, generator=generator), alpha=0.05)
    return model


def logits(model: Model, inputs: tuple[list[list[int]], list[list[int]] | None]) -> Any:
    return model.engine.to_numpy(model(*(triform.Batch.from_ids(ids) for ids in inputs if ids is not None)).logits)


def with_peft(case: Case, base: Path, adapter: Path, **changes: Any) -> Any:
    model = getattr(transformers, case.model).from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager", **changes
    )
    return peft.PeftModel.from_pretrained(model, adapter, is_trainable=True).eval()


@pytest.mark.filterwarnings("ignore:.*")  # of PEFT
@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_gradients_and_answers_equal_those_of_peft(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    case = BY_NAME[name]
    make_checkpoint(case, tmp_path / "base")
    model = shaken(with_lora(load_for_training(tmp_path / "base"), **settings))
    save_adapter(model, tmp_path / "adapter")
    reference = with_peft(case, tmp_path / "base", tmp_path / "adapter")
    inputs = random_inputs(case, model, lengths=(9, 4))
    loss, expected = ours(model, *inputs), theirs(reference, *inputs)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    loss.backward()
    expected.backward()
    changes = [own for name, own in trainable_parameters(model).items() if "lora" in name]
    squares = sum(own.grad.square().sum().item() for own in changes if own.grad is not None)
    # If the parts of a fused weight have separate updates, PEFT also trains the zeros between the parts.
    adapted = [own for key, own in reference.named_parameters() if "lora" in key]
    masks = [own != 0 for own in adapted]
    found = sum(own.grad[mask].square().sum().item() for own, mask in zip(adapted, masks, strict=True))
    assert squares == pytest.approx(found, rel=1e-3)

    answers = logits(model, inputs)
    for other in (merge_lora(model), triform.load(tmp_path / "base", adapter=tmp_path / "adapter", engine="reference")):
        assert np.abs(logits(other, inputs) - answers).max() <= 1e-5 * max(1, np.abs(answers).max())
    model.save(tmp_path / "merged")
    assert np.allclose(logits(triform.load(tmp_path / "merged", engine="reference"), inputs), answers, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*")  # of PEFT
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bert", spec.SequenceHead),
        ("roberta-masked-lm", spec.SequenceHead),
        ("distilbert", spec.TokenHead),
        ("gpt2-lm", spec.SequenceHead),
        ("bert-masked-lm", spec.SpanHead),
        ("bart-lm", spec.SequenceHead),
        ("t5-lm", spec.TokenHead),
    ],
)
def test_a_new_head_is_trained_whole_and_goes_with_the_adapter(
    name: str, kind: type[spec.Head], tmp_path: Path
) -> None:
    case = BY_NAME[name]
    make_checkpoint(case, tmp_path / "base")
    labels = None if kind is spec.SpanHead else ["red", "green", "blue"]
    model = shaken(with_lora(load_for_training(tmp_path / "base", new_head=NewHead(kind, labels=labels))))
    new = model.blueprint.new_parameters
    assert {own for own in trainable_parameters(model) if "lora" not in own} == set(new)
    save_adapter(model, tmp_path / "adapter")
    inputs = random_inputs(case, model, lengths=(9, 4))
    answers = logits(model, (inputs[0], None))
    again = triform.load(tmp_path / "base", adapter=tmp_path / "adapter", engine="reference")
    assert np.abs(logits(again, (inputs[0], None)) - answers).max() <= 1e-5 * max(1, np.abs(answers).max())
    if labels is not None:
        assert again.spec.head.labels == tuple(labels)  # type: ignore[union-attr]
    [architecture] = model.blueprint.config["architectures"]
    of_head = Case(name="", model=architecture, config=case.config)
    changes = {} if labels is None else {"num_labels": 3}
    reference = with_peft(of_head, tmp_path / "base", tmp_path / "adapter", **changes)
    assert ours(model, inputs[0], None).item() == pytest.approx(
        theirs(reference, inputs[0], None).item(), rel=1e-4, abs=1e-5
    )


def test_nothing_else_is_trained_and_it_begins_as_it_was(tmp_path: Path) -> None:
    case = BY_NAME["llama-grouped"]
    make_checkpoint(case, tmp_path)
    base = load_for_training(tmp_path)
    inputs = random_inputs(case, base, lengths=(9, 4))
    before = logits(base, inputs)
    model = with_lora(base, targets=["*.query"], dropout=0.5)
    assert np.array_equal(logits(model, inputs), before)
    assert list(trainable_parameters(model)) == [
        f"blocks.{layer}.attention.query.weight.lora_{part}" for layer in range(3) for part in "AB"
    ]
    shaken(model)
    with model.engine.training():
        assert ours(model, *inputs).item() != ours(model, *inputs).item()
    assert ours(model, *inputs).item() == ours(model, *inputs).item()


def test_a_tied_head_is_left_alone(tmp_path: Path) -> None:
    make_checkpoint(BY_NAME["llama-lm-tied"], tmp_path)
    model = with_lora(load_for_training(tmp_path), targets=["*"])
    assert not any("embedding" in name for name in trainable_parameters(model))


def test_what_it_refuses(tmp_path: Path) -> None:
    make_checkpoint(BY_NAME["bert"], tmp_path / "base")
    model = load_for_training(tmp_path / "base")
    refused: list[tuple[dict[str, Any], str]] = [
        (
            {"targets": ["*.c_attn"]},
            r"targets: '\*.c_attn' fits no linear of the model. A name is, for example, 'blocks.0",
        ),
        ({"trained": ["norm"]}, "trained: 'norm' fits no parameter"),
        ({"rank": 0}, "rank=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ]
    for settings, message in refused:
        with pytest.raises(InputError, match=message):
            with_lora(model, **settings)
    with pytest.raises(InputError, match="no low-rank change to save"):
        save_adapter(model, tmp_path / "adapter")


def test_a_linear_that_is_stored_as_a_convolution_is_refused(tmp_path: Path) -> None:
    make_checkpoint(BY_NAME["bert"], tmp_path)
    model = load_for_training(tmp_path)
    convolution = Rename("conv.*", "blocks.*.feed_forward.down.weight", layout=(Flatten((3, 4, 4)),))
    table = replace(model.blueprint.table, rules=(convolution, *model.blueprint.table.rules))
    model.blueprint = replace(model.blueprint, table=table)
    with pytest.raises(InputError, match=r"blocks\.0\.feed_forward\.down\.weight is stored as conv\.0 \(flattened\)"):
        with_lora(model, targets=["*.down"])


def test_the_config_is_peft_s(tmp_path: Path) -> None:
    make_checkpoint(BY_NAME["gpt2-lm"], tmp_path / "base")
    model = with_lora(
        load_for_training(tmp_path / "base"), targets=["blocks.0.attention.query", "blocks.*.attention.output"]
    )
    save_adapter(model, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM"
    assert config["target_modules"][:2] == ["transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"]
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (8, 16, True)
    assert peft.LoraConfig.from_pretrained(tmp_path / "adapter").r == 8
