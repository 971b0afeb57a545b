"""Tied tables: a checkpoint may hold a shared tensor under any of its names."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

import triform
from tests.parity.harness import compare, load_reference, random_inputs
from tests.weights import CASE, checkpoint, edit_tensors, make, read_file, write_file
from triform.weights import open_tensors

TIED = """
    bert-masked-lm roberta-masked-lm xlm-roberta-masked-lm distilbert-masked-lm mpnet-masked-lm llama-lm-tied qwen2-lm
    gpt2-lm bart-lm marian-lm t5-lm
""".split()


@pytest.mark.parametrize("name", TIED)
def test_what_save_model_keeps_of_shared_tensors_is_enough(name: str, tmp_path: Path) -> None:
    """`safetensors.torch.save_model` keeps the first name of a shared tensor, which is often that of the head."""
    folder = tmp_path / "model"
    folder.mkdir()
    model = make(name, folder)
    safetensors.torch.save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})
    reference, loaded = load_reference(CASE[name], folder), triform.load(folder)
    sources, targets = random_inputs(CASE[name], loaded)
    compare(loaded, reference, sources, targets)
    loaded.save(tmp_path / "saved")
    compare(triform.load(tmp_path / "saved"), reference, sources, targets)


@pytest.mark.parametrize("name", TIED)
def test_every_name_of_a_shared_table_is_a_source(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path)
    saved = set(open_tensors(checkpoint(tmp_path)))
    table = model.get_input_embeddings().weight
    names = [own for own, tensor in model.state_dict().items() if tensor.data_ptr() == table.data_ptr()]
    assert len(names) >= 2
    sources, targets = random_inputs(CASE[name], triform.load(tmp_path))
    for kept in names:
        tensors = {own: tensor for own, tensor in read_file(tmp_path).items() if own not in names}
        write_file(tmp_path, {**tensors, kept: table.detach().clone()})
        assert set(open_tensors(checkpoint(tmp_path))) == saved - {*names} | {kept}
        compare(triform.load(tmp_path), model, sources, targets)


def test_names_of_one_table_that_differ_untie_the_head(tmp_path: Path) -> None:
    make("llama-lm-tied", tmp_path)
    edit_tensors(tmp_path, lambda tensors: tensors.update({"lm_head.weight": torch.ones(120, 32)}))
    assert "language_head.weight" in triform.load(tmp_path).parameters
