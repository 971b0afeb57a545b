"""The layouts of published families, and checkpoints with all of them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.models.bloom.modeling_bloom import BloomAttention
from transformers.models.falcon.modeling_falcon import FalconAttention

from tests.weights import checkpoint
from tests.weights.test_slices import all_slices, numbered
from triform.engines import Format, StoredTensor, convert, to_float32
from triform.errors import WeightError
from triform.weights import (
    Flatten,
    Rename,
    Split,
    Stack,
    TensorSlice,
    Transpose,
    WeightTable,
    combine_quantized,
    join_slices,
    match_tensors,
    open_tensors,
    read_parameter,
    write_tensors,
)

# Four queries, two keys and two values of three numbers each.

HEADS, KEY_HEADS, HEAD_DIM, INPUTS = 4, 2, 3, 5
WIDTH, KEY_WIDTH = HEADS * HEAD_DIM, KEY_HEADS * HEAD_DIM
Divide = Callable[[Any], Any]
"""Output of a fused linear, (1, rows, out) → the parts that the family takes, (1, rows, part) each."""


def view(*sizes: int) -> Divide:
    return lambda y: y.view(*y.shape[:2], *sizes)


def falcon(*, is_new: bool, has_one_key_head: bool) -> Divide:
    """Return the slices of Falcon. The new decoder repeats keys and values for each query."""
    own: Any = SimpleNamespace(
        new_decoder_architecture=is_new,
        multi_query=has_one_key_head,
        num_heads=HEADS,
        num_kv_heads=KEY_HEADS,
        head_dim=HEAD_DIM,
    )

    def divide(y: Any) -> Any:
        query, key, value = FalconAttention._split_heads(own, y)
        repeats = HEADS // KEY_HEADS if is_new else 1
        return query.flatten(2), key[:, :, ::repeats].flatten(2), value[:, :, ::repeats].flatten(2)

    return divide


def bloom(y: Any) -> Any:
    own: Any = SimpleNamespace(num_heads=HEADS, head_dim=HEAD_DIM)
    return [part.transpose(1, 2).flatten(2) for part in BloomAttention._reshape(own, y)]


FUSED: dict[str, tuple[int, Split, Divide]] = {
    "gpt2": (3 * WIDTH, Split((1, 1, 1)), lambda y: y.split(WIDTH, dim=2)),
    "phi3": (
        WIDTH + 2 * KEY_WIDTH,
        Split((HEADS, KEY_HEADS, KEY_HEADS)),
        lambda y: (y[..., :WIDTH], y[..., WIDTH : WIDTH + KEY_WIDTH], y[..., WIDTH + KEY_WIDTH :]),
    ),
    "modernbert": (3 * WIDTH, Split((1, 1, 1)), lambda y: view(3, -1, HEAD_DIM)(y).unbind(dim=-3)),
    "gpt-neox": (3 * WIDTH, Split((1, 1, 1), HEADS), lambda y: view(-1, 3 * HEAD_DIM)(y).chunk(3, dim=-1)),
    "bloom": (3 * WIDTH, Split((1, 1, 1), HEADS), bloom),
    "falcon, new decoder": (
        WIDTH + 2 * KEY_WIDTH,
        Split((HEADS // KEY_HEADS, 1, 1), KEY_HEADS),
        falcon(is_new=True, has_one_key_head=True),
    ),
    "falcon, one key head": (
        WIDTH + 2 * HEAD_DIM,
        Split((HEADS, 1, 1)),
        falcon(is_new=False, has_one_key_head=True),
    ),
    "falcon, old": (3 * WIDTH, Split((1, 1, 1), HEADS), falcon(is_new=False, has_one_key_head=False)),
    # A key without positions and a value half as wide, head by head.
    "deepseek-v3": (9 * HEADS, Split((6, 3), HEADS), lambda y: view(HEADS, 9)(y).split([6, 3], dim=-1)),
    "granite-moe, one expert": (14, Split((1, 1)), lambda y: y.chunk(2, dim=-1)),
    "gpt-oss, one expert": (14, Split((1, 1), groups=7), lambda y: (y[..., ::2], y[..., 1::2])),
}


@pytest.mark.parametrize("family", FUSED)
def test_a_fused_linear_is_divided_as_its_family_divides_the_output(family: str) -> None:
    size, split, divide = FUSED[family]
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(shape, generator=generator) for shape in ((size, INPUTS), (size,), (1, 6, INPUTS)))
    expected = divide(torch.nn.functional.linear(x, weight, bias))
    assert len(expected) == split.num_parts
    for part, own in zip(expected, all_slices((split,)), strict=True):
        w, b = (torch.from_numpy(own.cut(tensor.numpy()).copy()) for tensor in (weight, bias))
        torch.testing.assert_close(torch.nn.functional.linear(x, w, b), part.flatten(2))


def test_experts_that_are_stored_transposed_and_row_by_row_are_divided() -> None:
    """gpt-oss: gate_up_proj (experts, in, 2·F) with gates in even columns, and gate_up_proj_bias (experts, 2·F)."""
    experts, inputs, width = 3, 5, 4
    rule = Rename(
        "layers.*.mlp.experts.gate_up_proj*",
        "blocks.*.experts.#.gate.weight*",
        "blocks.*.experts.#.up.weight*",
        layout=(Stack(experts), Transpose(), Split((1, 1), groups=width)),
    )
    weight, bias = numbered(experts, inputs, 2 * width), numbered(experts, 2 * width)
    for array, suffix in ((weight, "_weight"), (bias, "_bias")):
        found = dict(rule.to_canonical(f"layers.7.mlp.experts.gate_up_proj{suffix}"))
        assert list(found)[:3] == [f"blocks.7.experts.{place}.weight{suffix}" for place in ("0.gate", "0.up", "1.gate")]
        assert len(found) == 2 * experts
        for expert in range(experts):
            gate, up = (found[f"blocks.7.experts.{expert}.{kind}.weight{suffix}"] for kind in ("gate", "up"))
            np.testing.assert_array_equal(gate.cut(array), array[expert].T[::2])
            np.testing.assert_array_equal(up.cut(array), array[expert].T[1::2])
        assert all(rule.to_checkpoint(name) == own for name, own in found.items())
        np.testing.assert_array_equal(join_slices({own: own.cut(array) for own in found.values()}), array)
    assert rule.to_checkpoint(f"blocks.7.experts.{experts}.gate.weight_weight") is None


def test_a_patch_embedding_is_a_linear() -> None:
    """ViT: a convolution with a stride equal to the kernel multiplies each patch with a matrix."""
    conv = torch.nn.Conv2d(3, 7, kernel_size=2, stride=2)
    image = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    rule = Rename("projection.*", "patch.*", layout=(Flatten((3, 2, 2)),))
    [(_, weight)], [(_, bias)] = rule.to_canonical("projection.weight"), rule.to_canonical("projection.bias")
    w, b = (own.cut(tensor.detach().numpy()) for own, tensor in ((weight, conv.weight), (bias, conv.bias)))
    patches = torch.nn.functional.unfold(image, kernel_size=2, stride=2)[0].T.numpy()
    np.testing.assert_allclose(patches @ w.T + b, conv(image)[0].flatten(1).T.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_convolution_over_frames_is_a_linear_over_windows() -> None:
    """Whisper: conv1, stored (out, in, kernel), reads windows of frames (kernel, in) end to end."""
    conv = torch.nn.Conv1d(4, 6, kernel_size=3, bias=False)
    frames = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    own = TensorSlice("conv1.weight", (Transpose((0, 2, 1)), Flatten((3, 4))))
    windows = np.stack([frames[begin : begin + 3].flatten().numpy() for begin in range(6)])
    expected = conv(frames.T[None])[0].T.detach().numpy()
    np.testing.assert_allclose(windows @ own.cut(conv.weight.detach().numpy()).T, expected, rtol=1e-5, atol=1e-6)


# Tables with such layouts, in files.

TABLE = WeightTable(
    prefix="model.",
    rules=(
        Rename("position", "embedding.position.weight", layout=(Stack(1),)),
        Rename("h.*.qkv.*", *(f"blocks.*.{part}.*" for part in "qkv"), layout=(Split((2, 1, 1), groups=2),)),
        Rename("h.*.dense.*", "blocks.*.output.*", layout=(Transpose(),)),
        Rename("h.*.experts.*.down.weight", "blocks.*.experts.*.down.weight"),
        Rename("h.*.experts.down", "blocks.*.experts.#.down.weight", layout=(Stack(3),)),
        Rename(
            "h.*.experts.gate_up",
            "blocks.*.experts.#.gate.weight",
            "blocks.*.experts.#.up.weight",
            layout=(Stack(3), Split((1, 1))),
        ),
        Rename("patch.*", "embedding.patch.*", layout=(Flatten((3, 2, 2)),)),
    ),
)
SHAPES = {
    "embedding.position.weight": (9, 4),
    "embedding.patch.weight": (4, 12),
    "embedding.patch.bias": (4,),
    **{
        f"blocks.{layer}.{name}": shape
        for layer in range(2)
        for name, shape in {
            "q.weight": (8, 4),
            "k.weight": (4, 4),
            "v.weight": (4, 4),
            "q.bias": (8,),
            "k.bias": (4,),
            "v.bias": (4,),
            "output.weight": (4, 8),
            "output.bias": (4,),
            **{f"experts.{e}.{kind}.weight": (6, 4) for e in range(3) for kind in ("gate", "up")},
            **{f"experts.{e}.down.weight": (4, 6) for e in range(3)},
        }.items()
    },
}


def parameters() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def join_all(arrays: dict[str, NDArray[Any]]) -> dict[str, StoredTensor]:
    """Return the checkpoint tensors of the exported parameters."""
    parts: dict[str, dict[TensorSlice, NDArray[Any]]] = {}
    for name, array in arrays.items():
        target = TABLE.to_checkpoint(name, prefix="model.")
        parts.setdefault(target.tensor, {})[target] = array
    return {tensor: StoredTensor(join_slices(own), Format.FLOAT32) for tensor, own in parts.items()}


def test_a_checkpoint_of_every_layout_is_read_and_written_again(tmp_path: Path) -> None:
    written = parameters()
    write_tensors(tmp_path, join_all(written))
    tensors = open_tensors(checkpoint(tmp_path))
    assert tensors["model.h.1.qkv.weight"].shape == (16, 4)
    assert tensors["model.h.0.dense.weight"].shape == (8, 4)
    assert tensors["model.h.0.experts.2.down.weight"].shape == (4, 6)
    assert tensors["model.h.0.experts.gate_up"].shape == (3, 12, 4)
    assert tensors["model.patch.weight"].shape == (4, 3, 2, 2)
    assert tensors["model.position"].shape == (1, 9, 4)
    assignment = match_tensors(SHAPES, TABLE, tensors)
    assert assignment.unused == ()
    read = {name: read_parameter(tensors, source, None).array for name, source in assignment.sources.items()}
    for name, array in written.items():
        np.testing.assert_array_equal(read[name], array)
    (tmp_path / "again").mkdir()
    write_tensors(tmp_path / "again", join_all(read))
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_experts_are_read_from_one_tensor_or_from_one_each(tmp_path: Path) -> None:
    written = parameters()
    tensors = join_all(written)
    for layer in range(2):
        each = [tensors.pop(f"model.h.{layer}.experts.{expert}.down.weight").array for expert in range(3)]
        tensors[f"model.h.{layer}.experts.down"] = StoredTensor(np.stack(each), Format.FLOAT32)
    write_tensors(tmp_path, tensors)
    opened = open_tensors(checkpoint(tmp_path))
    sources = match_tensors(SHAPES, TABLE, opened).sources
    name = "blocks.1.experts.2.down.weight"
    assert sources[name] == TensorSlice("model.h.1.experts.down", (Stack(3, part=2),))
    np.testing.assert_array_equal(read_parameter(opened, sources[name], None).array, written[name])


def test_a_tensor_that_cannot_be_divided_is_named_with_the_shape_that_can(tmp_path: Path) -> None:
    tensors = join_all(parameters())
    wrong = {"h.0.qkv.weight": (15, 4), "patch.weight": (4, 12), "h.1.experts.gate_up": (4, 12, 4)}
    for name, shape in wrong.items():
        tensors[f"model.{name}"] = StoredTensor(numbered(*shape), Format.FLOAT32)
    del tensors["model.h.0.dense.weight"]
    write_tensors(tmp_path, tensors)
    with pytest.raises(WeightError) as raised:
        match_tensors(SHAPES, TABLE, open_tensors(checkpoint(tmp_path)))
    assert [" ".join(line.split()) for line in str(raised.value).splitlines()[1:-1]] == [
        "misshapen model.h.0.qkv.weight [15, 4], expected [16, 4]",
        "misshapen model.h.1.experts.gate_up [4, 12, 4], expected [3, 12, 4]",
        "misshapen model.patch.weight [4, 12], expected [4, 3, 2, 2]",
        "missing model.h.0.dense.weight [8, 4] for blocks.0.output.weight",
    ]


@pytest.mark.parametrize("format", [Format.INT8, Format.INT4])
def test_integers_are_divided_with_their_scales_and_not_transposed(format: Format, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((16, 64), np.float32)
    whole = convert(StoredTensor(weight, Format.FLOAT32), format)
    write_tensors(tmp_path, {"h.0.qkv.weight": whole, "h.0.dense.weight": whole})
    tensors = combine_quantized(open_tensors(checkpoint(tmp_path)), format)
    shapes = {"blocks.0.q.weight": (8, 64), "blocks.0.k.weight": (4, 64), "blocks.0.v.weight": (4, 64)}
    table = WeightTable(rules=TABLE.rules, ignored=("h.0.dense.weight",))
    parts = {}
    for name, source in match_tensors(shapes, table, tensors).sources.items():
        parts[source] = read_parameter(tensors, source, None)
        assert parts[source].shape == shapes[name]
        np.testing.assert_array_equal(to_float32(parts[source]), source.cut(to_float32(whole)))
    np.testing.assert_array_equal(join_slices({own: part.array for own, part in parts.items()}), whole.array)
    scales = {own: part.scales for own, part in parts.items() if part.scales is not None}
    np.testing.assert_array_equal(join_slices(scales), whole.scales)
    message = rf"dtype +h.0.dense.weight \(transposed\) {format}, expected floats, since integers have scales for rows"
    with pytest.raises(WeightError, match=message):
        match_tensors({**shapes, "blocks.0.output.weight": (64, 16)}, TABLE, tensors)
