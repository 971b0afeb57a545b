"""Reads of safetensors files: bit-exact, mapped, single or sharded; and every kind of damage."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import triform
from tests.engines import FLOATS
from tests.weights import checkpoint, make, read_file, write_file, write_raw
from triform.engines import Format, StoredTensor
from triform.errors import ModelError, ModelNotFoundError, UnsupportedModelError, WeightError
from triform.weights import open_tensors, write_tensors

DTYPES = {Format.FLOAT32: torch.float32, Format.FLOAT16: torch.float16, Format.BFLOAT16: torch.bfloat16}
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def bits(tensor: torch.Tensor) -> Any:
    """Return the bits of a tensor of any float dtype, as a NumPy array."""
    return tensor.contiguous().view(torch.uint8).numpy()


@pytest.mark.parametrize("format", FLOATS, ids=str)
def test_every_bit_pattern_is_read_as_it_was_stored(format: Format, tmp_path: Path) -> None:
    patterns = torch.arange(2**16, dtype=torch.int32).to(torch.uint16)
    wide = (patterns.to(torch.int32) << 16) | 0x1234
    tensor = (wide if format is Format.FLOAT32 else patterns).view(DTYPES[format]).reshape(2, 2**15)
    write_file(tmp_path, {"a": torch.zeros(3, dtype=torch.float16), "x": tensor})
    stored = open_tensors(checkpoint(tmp_path)).read("x")
    assert stored.format is format
    assert stored.array.shape == (2, 2**15)
    np.testing.assert_array_equal(stored.array.view(np.uint8), bits(tensor))


def test_tensors_of_no_dimension_and_of_no_numbers_are_read(tmp_path: Path) -> None:
    write_file(tmp_path, {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 4)})
    tensors = open_tensors(checkpoint(tmp_path))
    assert tensors.read("scalar").array.shape == ()
    assert tensors.read("scalar").array == 1.5
    assert tensors.read("empty").array.shape == (0, 4)


def test_reading_maps_the_file_and_copies_nothing(tmp_path: Path) -> None:
    write_file(tmp_path, {"x": torch.arange(8.0), "y": torch.arange(8, dtype=torch.bfloat16)})
    tensors = open_tensors(checkpoint(tmp_path))
    first, again, other = tensors.read("x").array, tensors.read("x").array, tensors.read("y").array
    assert np.shares_memory(first, again)
    base = first
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    assert np.shares_memory(base, other)
    assert not first.flags.writeable
    # The mapping shares the file: a write to the file changes the array.
    info = tensors["x"]
    with (tmp_path / "model.safetensors").open("r+b") as stream:
        stream.seek(info.begin)
        stream.write(np.float32(7).tobytes())
    assert first[0] == 7


def test_numbers_that_do_not_lie_at_a_multiple_of_their_size_are_read(tmp_path: Path) -> None:
    header = {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "x": {**ENTRY, "data_offsets": [1, 9]}}
    write_raw(tmp_path / "model.safetensors", header, b"\0" + np.array([1.5, -2], np.float32).tobytes())
    np.testing.assert_array_equal(open_tensors(checkpoint(tmp_path)).read("x").array, [1.5, -2])


def test_tensors_are_equal_by_bits_and_shape_and_dtype(tmp_path: Path) -> None:
    x = torch.tensor([0.0, float("nan")])
    others = {"shape": x.clone()[None], "zero": torch.tensor([-0.0, float("nan")]), "half": x.half()}
    write_file(tmp_path, {"x": x, "same": x.clone(), **others})
    tensors = open_tensors(checkpoint(tmp_path))
    assert tensors.equal("x", "same")
    assert not any(tensors.equal("x", name) for name in others)


def stored(**shapes: tuple[int, ...]) -> dict[str, StoredTensor]:
    random = np.random.default_rng(0)
    return {name: StoredTensor(random.random(shape, np.float32), Format.FLOAT32) for name, shape in shapes.items()}


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    written = stored(a=(4, 4), b=(3,), c=(5, 2), d=(16,))
    write_tensors(tmp_path, written, shard_bytes=64)
    assert len(list(tmp_path.glob("model-*-of-00003.safetensors"))) == 3
    tensors = open_tensors(checkpoint(tmp_path))
    assert set(tensors) == set(written)
    assert len({tensors[name].file for name in tensors}) == 3
    for name, tensor in written.items():
        np.testing.assert_array_equal(tensors.read(name).array, tensor.array)


def test_shards_that_transformers_writes_are_read(tmp_path: Path) -> None:
    reference = make("llama-lm", tmp_path / "made").to(torch.bfloat16)
    reference.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    tensors = open_tensors(checkpoint(tmp_path / "shards"))
    expected = reference.state_dict()
    assert set(tensors) == set(expected)
    for name in tensors:
        assert tensors[name].dtype == "BF16"
        np.testing.assert_array_equal(tensors.read(name).array.view(np.uint8), bits(expected[name]))


@pytest.mark.parametrize("kept", [0, 4, 8, 20, -1], ids="{} bytes".format)
def test_a_file_cut_short_is_refused(kept: int, tmp_path: Path) -> None:
    write_file(tmp_path, {"x": torch.arange(64.0)})
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightError, match=r"model\.safetensors is damaged or cut short: .+ Fetch the file again"):
        open_tensors(checkpoint(tmp_path))


DAMAGED: dict[str, dict[str, Any]] = {
    "not JSON": {"header": b"{garbage!"},
    "not UTF-8": {"header": b'{"\xff": 1}'},
    "not an object": {"header": [1, 2]},
    "deeply nested": {"header": b"[" * 100_000},
    "header longer than the file": {"header": {"x": ENTRY}, "size": 10**6},
    "header of 2^63 bytes": {"header": {"x": ENTRY}, "size": 2**63},
    "header of 2^64-1 bytes": {"header": {"x": ENTRY}, "size": 2**64 - 1},
    "overlapping offsets": {"header": {"x": ENTRY, "y": {**ENTRY, "data_offsets": [4, 12]}}, "data": bytes(12)},
    "a hole between tensors": {"header": {"x": ENTRY, "y": {**ENTRY, "data_offsets": [12, 20]}}, "data": bytes(20)},
    "bytes behind the last tensor": {"header": {"x": ENTRY}, "data": bytes(16)},
    "end before begin": {"header": {"x": {**ENTRY, "data_offsets": [8, 0]}}},
    "fewer bytes than the shape needs": {"header": {"x": {**ENTRY, "shape": [3]}}},
    "a shape that overflows": {"header": {"x": {**ENTRY, "shape": [2**40, 2**40]}}},
    "a negative length": {"header": {"x": {**ENTRY, "shape": [-2]}}},
    "an unknown dtype": {"header": {"x": {**ENTRY, "dtype": "F33"}}},
    "no offsets": {"header": {"x": {"dtype": "F32", "shape": [2]}}},
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_refused(kind: str, tmp_path: Path) -> None:
    write_raw(tmp_path / "model.safetensors", **{"data": bytes(8), **DAMAGED[kind]})
    with pytest.raises(WeightError, match=r"model\.safetensors is damaged or cut short: .+ Fetch the file again"):
        open_tensors(checkpoint(tmp_path))


def write_index(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_the_single_file_counts_before_an_index(tmp_path: Path) -> None:
    write_file(tmp_path, {"x": torch.zeros(2), "y": torch.zeros(3)}, "model-00001-of-00001.safetensors")
    write_index(tmp_path, {"x": "model-00001-of-00001.safetensors", "y": "model-00001-of-00001.safetensors"})
    write_file(tmp_path, {"x": torch.ones(2)})
    tensors = open_tensors(checkpoint(tmp_path))
    assert list(tensors) == ["x"]
    np.testing.assert_array_equal(tensors.read("x").array, [1, 1])
    (tmp_path / "model-00001-of-00001.safetensors").unlink()  # transformers deletes the shards, and leaves the index
    assert list(open_tensors(checkpoint(tmp_path))) == ["x"]


@pytest.mark.parametrize("max_shard_size", ["20KB", "5GB"])
def test_weights_saved_last_are_the_weights_that_transformers_loads(max_shard_size: str, tmp_path: Path) -> None:
    make("bert", tmp_path)
    other = make("bert", tmp_path / "other")
    with torch.no_grad():
        other.embeddings.word_embeddings.weight.add_(1)
    other.save_pretrained(tmp_path, max_shard_size="20KB")
    other.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    right = type(other).from_pretrained(tmp_path).state_dict()["embeddings.word_embeddings.weight"]
    stored = open_tensors(checkpoint(tmp_path)).read("embeddings.word_embeddings.weight")
    np.testing.assert_array_equal(stored.array, right.numpy())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of files")
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "a.safetensors"])
def test_a_file_that_may_not_be_read_is_named_with_the_reason(file: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # another user must reach it
        Path(folder).chmod(0o755)
        make("bert", Path(folder))
        if file == "a.safetensors":
            os.rename(Path(folder) / "model.safetensors", Path(folder) / file)
            write_index(Path(folder), dict.fromkeys(read_file(Path(folder), file), file))
        (Path(folder) / file).chmod(0)
        if is_root := os.geteuid() == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(ModelNotFoundError, match=rf"{file} may not be read by this user: permission denied"):
                triform.load(folder)
        finally:
            if is_root:
                os.seteuid(0)


def test_a_pipe_is_no_file_of_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    write_index(tmp_path, {"x": "a.safetensors"})
    with pytest.raises(WeightError, match=r"a\.safetensors is missing"):
        open_tensors(checkpoint(tmp_path))


def test_an_index_that_names_a_missing_shard_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path, {"x": torch.zeros(2)}, "model-00001-of-00002.safetensors")
    write_index(tmp_path, {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"})
    with pytest.raises(WeightError, match=r"00002-of-00002\.safetensors is missing, though .*index.* Fetch the model"):
        open_tensors(checkpoint(tmp_path))


def test_an_index_that_names_tensors_its_files_lack_lists_them_all(tmp_path: Path) -> None:
    write_file(tmp_path, {"x": torch.zeros(2)}, "a.safetensors")
    write_index(tmp_path, {"x": "a.safetensors", "y": "a.safetensors", "z": "a.safetensors"})
    with pytest.raises(WeightError, match=r"index\.json names tensors that its files lack") as raised:
        open_tensors(checkpoint(tmp_path))
    assert "y: not in a.safetensors" in str(raised.value)
    assert "z: not in a.safetensors" in str(raised.value)
    assert "x: not in" not in str(raised.value)


@pytest.mark.parametrize("file", ["../x.safetensors", "{parent}/x.safetensors", "sub/../../x.safetensors", ""])
def test_an_index_that_points_outside_the_folder_is_refused(file: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    write_file(tmp_path, {"x": torch.zeros(2)}, "x.safetensors")
    write_index(folder, {"x": file.format(parent=tmp_path)})
    with pytest.raises(WeightError, match=r"index\.json names .*outside the model's folder"):
        open_tensors(checkpoint(folder))


def test_an_index_with_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    write_index(tmp_path, {"x": "long " * 1000})
    with pytest.raises(WeightError, match=r"index\.json names 'long .*: File name too long"):
        open_tensors(checkpoint(tmp_path))


def test_files_that_are_links_into_a_cache_are_read(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    write_file(tmp_path / "blobs", {"x": torch.ones(2)}, "abc")
    folder = tmp_path / "snapshots"
    folder.mkdir()
    (folder / "a.safetensors").symlink_to("../blobs/abc")
    write_index(folder, {"x": "a.safetensors"})
    np.testing.assert_array_equal(open_tensors(checkpoint(folder)).read("x").array, [1, 1])


@pytest.mark.parametrize("weight_map", [None, [], "x", {"x": 3}, {"x": None}], ids=json.dumps)
def test_an_index_without_a_sound_weight_map_is_refused(weight_map: object, tmp_path: Path) -> None:
    write_index(tmp_path, weight_map)
    with pytest.raises(WeightError, match=r"index\.json: expected a weight_map from tensor names to files"):
        open_tensors(checkpoint(tmp_path))


def test_an_index_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": ')
    with pytest.raises(UnsupportedModelError, match=r"index\.json is not valid JSON: .+ Fetch the file again"):
        open_tensors(checkpoint(tmp_path))


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(WeightError, match=r"\.bin file, a pickle, which can run code.*") as raised:
        open_tensors(checkpoint(tmp_path))
    assert str(raised.value).endswith(f"triform convert {tmp_path}")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has neither model\.safetensors nor .*index\.json\. Fetch the weights"):
        open_tensors(checkpoint(tmp_path))
