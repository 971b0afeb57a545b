"""The torch engine: gradients, generation, devices; `test_against_reference.py` compares the operations."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import triform
from tests.parity.cases import bert, llama, t5
from tests.parity.harness import Case, make_checkpoint, random_ids
from triform import spec
from triform.errors import EngineError
from triform.networks import Decoder

FORMS = [
    Case(name="bert", model="BertForMaskedLM", config=bert),
    Case(name="llama", model="LlamaForCausalLM", config=lambda: llama(num_key_value_heads=2, tie_word_embeddings=True)),
    Case(name="t5", model="T5ForConditionalGeneration", config=t5),
]


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case.name)
def test_loss_and_every_gradient_equal_those_of_transformers(case: Case, tmp_path: Path) -> None:
    """A batch has two sequences of unequal length, with a label for every target token."""
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
        gradient = theirs[model.blueprint.assignment.sources[name].tensor].grad
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
    assert "engine='torch' cannot be used" in done.stderr
    assert "pip install 'triform[torch]'" in done.stderr
