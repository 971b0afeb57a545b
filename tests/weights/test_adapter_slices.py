"""LoRA updates of fused and transposed tensors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.weights import checkpoint, write_file
from triform.engines import Format, StoredTensor
from triform.errors import WeightError
from triform.weights import Flatten, Rename, SliceStep, Split, Stack, Transpose, WeightTable
from triform.weights.adapter import Adapter

RANK, INPUTS, OUTPUTS = 2, 5, 24

LAYOUTS: dict[str, tuple[SliceStep, ...]] = {
    "whole": (),
    "transposed": (Transpose(),),
    "equal": (Split((1, 1, 1)),),
    "unequal": (Split((4, 1, 1)),),
    "equal and transposed": (Transpose(), Split((1, 1, 1))),
    "head by head": (Split((1, 1, 1), groups=4),),
    "by key heads": (Split((2, 1, 1), groups=3),),
    "row by row": (Split((1, 1), groups=12),),
    "row by row and transposed": (Transpose(), Split((1, 1), groups=12)),
}


def table_of(layout: tuple[SliceStep, ...], *canonical: str) -> WeightTable:
    return WeightTable(rules=(Rename("h.*.fused.*", *canonical, layout=layout),))


def random(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def write_adapter(folder: Path, *shapes: tuple[int, ...], **config: Any) -> dict[str, NDArray[np.float32]]:
    """Write random tensors of an adapter for one module: A, B and, as the third, the magnitude of DoRA."""
    names = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    arrays = {name: random(*shape, seed=seed) for seed, (name, shape) in enumerate(zip(names, shapes, strict=False))}
    tensors = {f"base_model.model.h.0.fused.{name}": torch.from_numpy(array) for name, array in arrays.items()}
    write_file(folder, tensors, "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 3, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return arrays


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_update_of_a_tensor_updates_each_of_its_parts(kind: str, use_dora: bool, tmp_path: Path) -> None:
    layout = LAYOUTS[kind]
    num_parts = next((step.num_parts for step in layout if isinstance(step, Split)), 1)
    table = table_of(layout, *(f"blocks.*.part{part}.*" for part in range(num_parts)))
    shapes = [(RANK, INPUTS), (OUTPUTS, RANK), (OUTPUTS,)]
    arrays = write_adapter(tmp_path, *shapes[: 2 + use_dora], use_dora=use_dora)
    weight = random(OUTPUTS, INPUTS, seed=9)
    updated = weight + np.float32(1.5) * (arrays["lora_B.weight"] @ arrays["lora_A.weight"])
    if use_dora:
        updated *= (arrays["lora_magnitude_vector"] / np.linalg.norm(updated, axis=1))[:, None]
    is_transposed = Transpose() in layout
    stored, expected = (array.T if is_transposed else array for array in (weight, updated))
    sources = dict(table.to_canonical("h.0.fused.weight"))
    declared = {name: source.cut(stored).shape for name, source in sources.items()}
    updates = Adapter.open(checkpoint(tmp_path)).make_updates(table, declared)
    assert set(updates) == set(sources)
    for name, source in sources.items():
        result = updates[name](StoredTensor(source.cut(stored), Format.FLOAT32)).array
        np.testing.assert_allclose(result, source.cut(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [((Flatten((3, 2, 2)),), (7, 12)), ((Stack(3),), (7, 12)), ((Transpose((0, 2, 1)), Flatten((3, 4))), (7, 12))],
    ids=["patch embedding", "experts", "convolution"],
)
def test_an_update_of_more_than_a_matrix_is_refused(
    layout: tuple[SliceStep, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    is_stack = any(isinstance(step, Stack) for step in layout)
    table = table_of(layout, "blocks.*.#.part.*" if is_stack else "blocks.*.part.*")
    write_adapter(tmp_path, (RANK, 12), (7, RANK))
    [name, *_] = [name for name, _ in table.to_canonical("h.0.fused.weight")]
    with pytest.raises(WeightError, match=r"unexpected  h\.0\.fused, whose weight is not a matrix"):
        Adapter.open(checkpoint(tmp_path)).make_updates(table, {name: shape})


def test_the_shape_of_an_update_is_that_of_the_whole_tensor(tmp_path: Path) -> None:
    table = table_of((Split((2, 1, 1), groups=3),), "blocks.*.q.*", "blocks.*.k.*", "blocks.*.v.*")
    write_adapter(tmp_path, (RANK, INPUTS), (OUTPUTS // 4, RANK))
    with pytest.raises(WeightError, match=r"lora_B.weight \[6, 2\], expected \[24, 2\]"):
        Adapter.open(checkpoint(tmp_path)).make_updates(table, {"blocks.0.k.weight": (OUTPUTS // 4, INPUTS)})
