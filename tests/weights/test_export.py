"""Export: whole checkpoints or none, over the source folder, with the tensors outside the model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import triform
from tests.engines import FLOATS
from tests.parity.harness import compare, load_reference, random_ids
from tests.weights import CASE, checkpoint, edit_tensors, make, read_file
from triform.engines import Format, StoredTensor
from triform.errors import InputError, OutputError
from triform.hub import MODEL
from triform.replacing import replacing_files, write_json
from triform.weights import open_tensors, write_tensors


def tensors_of(*sizes: int) -> dict[str, StoredTensor]:
    """Return a float32 tensor for each size."""
    return {
        f"x.{index}": StoredTensor(np.full(size, index, np.float32), Format.FLOAT32) for index, size in enumerate(sizes)
    }


def assert_holds(folder: Path, written: dict[str, StoredTensor]) -> None:
    tensors = open_tensors(checkpoint(folder))
    assert set(tensors) == set(written)
    for name, tensor in written.items():
        np.testing.assert_array_equal(tensors.read(name).array, tensor.array)


def replace_tensors(folder: Path, tensors: dict[str, StoredTensor], **options: Any) -> None:
    with replacing_files(folder, stale=MODEL.all_weights) as new:
        write_tensors(new, tensors, **options)


@pytest.mark.parametrize(
    ("sizes", "shard_bytes", "num_shards"),
    [((4, 4), 32, 1), ((4, 4), 31, 2), ((4, 4, 8, 1), 32, 3), ((100, 1), 8, 2), ((1, 100, 1), 8, 3), ((5,), 1, 1)],
)
def test_a_shard_is_no_larger_than_asked_unless_one_tensor_is(
    sizes: tuple[int, ...], shard_bytes: int, num_shards: int, tmp_path: Path
) -> None:
    written = tensors_of(*sizes)
    write_tensors(tmp_path, written, shard_bytes=shard_bytes)
    assert_holds(tmp_path, written)
    files = {info.file for info in open_tensors(checkpoint(tmp_path)).values()}
    assert len(files) == num_shards
    assert {path.name for path in tmp_path.glob("*.safetensors")} == files
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() == (num_shards > 1)
    if num_shards > 1:
        content = json.loads(index.read_text())
        assert content["metadata"]["total_size"] == 4 * sum(sizes)
        assert set(content["weight_map"].values()) == files
    for file in files:
        held = [name for name, info in open_tensors(checkpoint(tmp_path)).items() if info.file == file]
        assert len(held) == 1 or sum(written[name].array.nbytes for name in held) <= shard_bytes


def test_shards_that_triform_writes_are_read_by_transformers(tmp_path: Path) -> None:
    reference = make("llama-lm", tmp_path)
    tensors = open_tensors(checkpoint(tmp_path))
    stored = {name: StoredTensor(tensors.read(name).array, Format.FLOAT32) for name in tensors}
    replace_tensors(tmp_path, stored, shard_bytes=20_000)
    assert not (tmp_path / "model.safetensors").exists()
    case = CASE["llama-lm"]
    compare(triform.load(tmp_path), load_reference(case, tmp_path), random_ids(case, lengths=(4, 9)), None)
    assert torch.equal(load_reference(case, tmp_path).lm_head.weight, reference.lm_head.weight)


@pytest.mark.parametrize("format", FLOATS, ids=str)
def test_tensors_that_do_not_lie_end_to_end_are_written_as_they_read(format: Format, tmp_path: Path) -> None:
    bits = np.arange(12, dtype=np.uint32 if format is Format.FLOAT32 else np.uint16).reshape(3, 4)
    numbers = {Format.FLOAT32: np.float32, Format.FLOAT16: np.float16, Format.BFLOAT16: np.uint16}[format]
    written = {
        "turned": StoredTensor(bits.view(numbers).T, format),
        "every_other": StoredTensor(bits.view(numbers)[:, ::2], format),
    }
    write_tensors(tmp_path, written)
    assert_holds(tmp_path, written)
    assert {str(tensor.dtype) for tensor in read_file(tmp_path).values()} == {f"torch.{format.name}"}


@pytest.mark.parametrize(("first", "second"), [(8, 1000), (1000, 8)], ids=["shards, then one", "one, then shards"])
def test_writing_over_another_layout_leaves_one_that_is_sound(first: int, second: int, tmp_path: Path) -> None:
    replace_tensors(tmp_path, tensors_of(2, 2, 2), shard_bytes=first)
    written = tensors_of(3, 3)
    replace_tensors(tmp_path, written, shard_bytes=second)
    assert_holds(tmp_path, written)


@pytest.mark.parametrize("shard_bytes", [8, 1000])
def test_writing_over_a_longer_layout_leaves_no_shards_of_it(shard_bytes: int, tmp_path: Path) -> None:
    replace_tensors(tmp_path, tensors_of(2, 2, 2), shard_bytes=8)
    replace_tensors(tmp_path, tensors_of(2, 2), shard_bytes=shard_bytes)
    files = {info.file for info in open_tensors(checkpoint(tmp_path)).values()}
    assert {path.name for path in tmp_path.glob("*.safetensors")} == files


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_a_model_is_saved_over_the_folder_it_was_loaded_from(dtype: str, tmp_path: Path) -> None:
    case = CASE["llama-lm-tied"]
    make(case.name, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    before = read_file(tmp_path)
    sources = random_ids(case, lengths=(4, 9))
    model = triform.load(tmp_path, dtype=dtype)
    expected = model(triform.Batch.from_ids(sources)).logits
    model.save(tmp_path)
    # The model maps the old file, and keeps the old file alive.
    np.testing.assert_array_equal(model(triform.Batch.from_ids(sources)).logits, expected)
    np.testing.assert_array_equal(triform.load(tmp_path)(triform.Batch.from_ids(sources)).logits, expected)
    assert (tmp_path / "tokenizer.json").read_text() == "{}"
    format = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    for name, tensor in read_file(tmp_path).items():
        assert torch.equal(tensor, before[name].to(format)), name
    assert not list(tmp_path.glob(".*"))


def test_files_beside_the_weights_are_copied_and_others_are_not(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make("bert", source)
    copied = [
        "tokenizer.json",
        "vocab.txt",
        "1_Pooling/config.json",
        "spiece.model",
        "README.md",
        "chat_template.jinja",
    ]
    left = [".hidden.json", "pytorch_model.bin", "onnx/model.onnx", "model.safetensors.index.json.bak"]
    for name in copied + left:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    triform.load(source).save(target)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {*copied, "config.json", "model.safetensors"}
    assert all((target / name).read_text() == name for name in copied)


def test_a_head_that_is_not_loaded_is_carried_through(tmp_path: Path) -> None:
    transformers.BertForPreTraining(CASE["bert"].config()).save_pretrained(tmp_path / "made")
    before = read_file(tmp_path / "made")
    triform.load(tmp_path / "made").save(tmp_path / "saved")
    after = read_file(tmp_path / "saved")
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    _, info = transformers.BertForPreTraining.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


@pytest.mark.parametrize(
    "name",
    ["llama-lm", *((name) for name in ("bert-masked-lm", "llama-sequence"))],
)
def test_a_backbone_saves_the_head_it_left_aside(name: str, tmp_path: Path) -> None:
    make(name, tmp_path / "made")
    triform.load(tmp_path / "made", with_head=False).save(tmp_path / "saved")
    before, after = read_file(tmp_path / "made"), read_file(tmp_path / "saved")
    assert set(after) == set(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    load_reference(CASE[name], tmp_path / "saved")


def test_an_own_head_of_a_tied_config_is_saved_and_read_back(tmp_path: Path) -> None:
    make("llama-lm-tied", tmp_path / "made")
    own = torch.randn(120, 32)
    edit_tensors(tmp_path / "made", lambda tensors: tensors.update({"lm_head.weight": own}))
    triform.load(tmp_path / "made").save(tmp_path / "saved")
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.lm_head.weight, own)


def test_json_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("before")
    content: Any = {"name": "Kätzchen", "values": [1, None]}
    with pytest.raises(TypeError):
        write_json(path, {"name": object()})
    assert path.read_text() == "before"
    write_json(path, content)
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert os.listdir(tmp_path) == ["config.json"]


NO_ROOM = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import triform
from triform.engines import Format, StoredTensor
from triform.errors import OutputError
from triform.hub import MODEL
from triform.replacing import replacing_files
folder = Path(sys.argv[1])
if (folder / "config.json").exists():
    write = triform.load(folder).save
else:
    tensors = {f"x.{i}": StoredTensor(np.ones(n, np.float32), Format.FLOAT32) for i, n in enumerate((10, 10, 20_000))}
    def write(folder):
        with replacing_files(folder, stale=MODEL.all_weights) as new:
            triform.weights.write_tensors(new, tensors, shard_bytes=40)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write(folder)
except OutputError as error:
    print(error)
    sys.exit(7)
"""


def fail_to_write(folder: Path) -> None:
    """Save the model in the folder, or shards in an empty folder, while no file can grow beyond 50 kB."""
    done = subprocess.run([sys.executable, "-c", NO_ROOM, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert f"{folder} cannot be written: " in done.stdout
    assert "The files that it had are unchanged." in done.stdout


def test_when_writing_fails_the_old_model_stays_and_nothing_else(tmp_path: Path) -> None:
    make("bert", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before["model.safetensors"]) > 100_000
    fail_to_write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_when_writing_a_shard_fails_the_old_shards_stay(tmp_path: Path) -> None:
    written = tensors_of(10, 10, 20_000)
    replace_tensors(tmp_path, written, shard_bytes=40)
    fail_to_write(tmp_path)
    assert_holds(tmp_path, written)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_cannot_be_put_in_its_place_leaves_no_partial_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name / "in the way").mkdir(parents=True)
    with pytest.raises((InputError, OutputError), match=r"is a folder|directory"):
        replace_tensors(tmp_path, tensors_of(3)) if name.startswith("model") else write_json(tmp_path / name, {})
    assert [path.name for path in tmp_path.iterdir()] == [name]
