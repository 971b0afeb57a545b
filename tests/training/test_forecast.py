"""The forecast of memory beside the memory that torch keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from tests.checkpoints import bart, bert, llama
from triform.inputs import Batch
from triform.model import load_for_training
from triform.model.trainable import trainable_parameters
from triform.training.forecast import forecast_memory

LENGTHS = [40, 24, 24, 9, 31]
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4}


def kept(model: Any, *batches: Batch) -> int:
    """Return the bytes that a forward pass holds for the gradients, without parameters."""
    parameters = {parameter.data_ptr() for parameter in trainable_parameters(model).values()}
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), model.engine.training():
        logits = model.network(*batches).logits
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    assert loss.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("name", ["bert", "llama", "bart"])
def test_activations(name: str, minilm: Path, tmp_path: Path) -> None:
    folder = {
        "bert": lambda: bert("BertForMaskedLM", minilm, tmp_path, vocab_size=30522, **WIDE),
        "llama": lambda: llama("LlamaForCausalLM", tmp_path, **WIDE),
        "bart": lambda: bart("BartForConditionalGeneration", tmp_path, d_model=64),
    }[name]()
    model = load_for_training(folder)
    batch = Batch.from_ids([[7] * length for length in LENGTHS])
    batches = (batch, batch) if name == "bart" else (batch,)
    told = forecast_memory(model, trainable_parameters(model), sum(LENGTHS))
    # Torch keeps only the softmax of the logits.
    assert told.activations + told.logits / 3 == pytest.approx(kept(model, *batches), rel=0.35)


def test_parameters_and_moments(minilm: Path) -> None:
    model = load_for_training(minilm)
    told = forecast_memory(model, trainable_parameters(model), 1)
    assert told.parameters == told.gradients == 4 * model.num_parameters
    assert told.moments == 2 * told.gradients
    assert told.total == told.parameters + told.gradients + told.moments + told.activations + told.logits


def test_recomputing_keeps_less(minilm: Path) -> None:
    model = load_for_training(minilm)
    told, less = (forecast_memory(model, {}, 1000, recompute=recompute).activations for recompute in (False, True))
    assert less < told / 3
