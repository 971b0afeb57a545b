"""Pickles → safetensors: equal tensors under equal names, from every kind of file written by torch."""

import json
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from typer.testing import CliRunner

import triform
from tests.weights import CASE, TensorDict, make, read_file
from triform.cli.main import app
from triform.errors import InputError, WeightError
from triform.weights import export
from triform.weights.convert import convert


def pickled(name: str, folder: Path) -> TensorDict:
    """Save the case `name` in the form of older versions of transformers: one .bin file with tied tensors."""
    model = make(name, folder)
    (folder / "model.safetensors").unlink()
    tensors: TensorDict = model.state_dict()
    torch.save(tensors, folder / "pytorch_model.bin")
    return tensors


def assert_holds(folder: Path, tensors: TensorDict) -> None:
    written = read_file(folder)
    assert set(written) == set(tensors)
    for name, tensor in written.items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor, tensors[name]), name


@pytest.mark.parametrize("name", ["bert-masked-lm", "gpt2-lm", "t5-lm", "llama-lm-tied"])
def test_a_converted_model_is_the_model(name: str, tmp_path: Path) -> None:
    make(name, tmp_path / "made")
    tensors = pickled(name, tmp_path / "pickled")
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "pickled")])
    assert (result.exit_code, result.stdout) == (0, f"Converted: {tmp_path / 'pickled'}\n")
    assert_holds(tmp_path / "pickled", tensors)
    loaded, expected = triform.load(tmp_path / "pickled"), triform.load(tmp_path / "made")
    assert loaded.spec == expected.spec
    for parameter, value in expected.parameters.items():
        np.testing.assert_array_equal(
            loaded.engine.stored(loaded.parameters[parameter]).array, expected.engine.stored(value).array
        )
    getattr(transformers, CASE[name].model).from_pretrained(tmp_path / "pickled")


def test_shards_of_both_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, out = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    tensors = pickled("bert", made)
    (made / "pytorch_model.bin").unlink()
    files = {name: f"pytorch_model-0000{1 + number % 2}-of-00002.bin" for number, name in enumerate(tensors)}
    for file in set(files.values()):
        torch.save({name: tensors[name] for name in tensors if files[name] == file}, made / file)
    (made / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    monkeypatch.setattr("triform.weights.convert.write_shards", partial(export.write_shards, shard_bytes=40_000))
    seen: list[str] = []
    convert(made, out, before_file=seen.append)
    assert len(seen) > 1
    assert sorted(seen) == sorted(path.name for path in out.glob("*.safetensors"))
    assert not list(out.glob("*.bin*"))
    model = triform.load(out)
    assert model.blueprint.config == json.loads((made / "config.json").read_text())
    for name, info in model.blueprint.tensors.items():
        assert info.shape == tuple(tensors[name].shape)


@pytest.mark.parametrize("modern", [True, False], ids=["zip file", "older file"])
def test_whatever_lies_in_memory_as_it_may_is_written_as_it_reads(modern: bool, tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors: dict[str, Any] = {
        "turned": base.T,
        "slice": base[1:, ::2],
        "spread": base[:1].expand(3, 4),
        "alias": base,
        "parameter": torch.nn.Parameter(base),
        "none": torch.zeros(0, 4),
        "scalar": torch.tensor(1.5),
    }
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8, torch.int8):
        tensors[str(dtype)] = torch.tensor([0, 1, 1]).to(dtype)
    entries = {**tensors, "epoch": 3, "nothing": None, "nested": {"x": base}}
    torch.save(entries, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=modern)
    assert convert(tmp_path).left_out == ("epoch", "nothing", "nested")
    assert_holds(tmp_path, tensors)


def test_modules_and_adapters_are_converted_and_what_is_there_is_left(tmp_path: Path) -> None:
    weights = {"x": torch.ones(2)}
    (tmp_path / "2_Dense").mkdir()
    for file in ("pytorch_model.bin", "2_Dense/pytorch_model.bin", "adapter_model.bin"):
        torch.save(weights, tmp_path / file)
    convert(tmp_path)
    written = [
        tmp_path / "model.safetensors",
        tmp_path / "2_Dense/model.safetensors",
        tmp_path / "adapter_model.safetensors",
    ]
    assert all(path.is_file() for path in written)
    with pytest.raises(WeightError, match=r"has all its weights as safetensors\. Pass overwrite"):
        convert(tmp_path)
    written[0].write_bytes(b"mine")
    written[1].unlink()
    convert(tmp_path)
    assert written[0].read_bytes() == b"mine"
    assert written[1].is_file()
    convert(tmp_path, overwrite=True)
    assert_holds(tmp_path, weights)


@pytest.mark.parametrize("below", ["", "x"])
def test_a_file_is_no_place_to_write_to(below: str, tmp_path: Path) -> None:
    pickled("bert", tmp_path / "model")
    (tmp_path / "file").write_bytes(b"mine")
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "model"), "--output", str(tmp_path / "file" / below)])
    assert isinstance(result.exception, InputError)
    assert "file" in str(result.exception)
    assert "cannot be made a folder" in str(result.exception)
    make("bert", tmp_path / "made")
    with pytest.raises(InputError, match=r"cannot be made a folder: .+\. Name another"):
        triform.load(tmp_path / "made").save(tmp_path / "file" / below)
    assert (tmp_path / "file").read_bytes() == b"mine"


class Hostile:
    def __reduce__(self) -> Any:
        return (print, ("it ran",))


@pytest.mark.parametrize("modern", [True, False], ids=["zip file", "older file"])
def test_code_is_not_run(modern: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"x": torch.ones(2), "y": Hostile()}, path, _use_new_zipfile_serialization=modern)
    with pytest.raises(WeightError, match=r"pytorch_model\.bin holds code \(.*print\), which will not be run"):
        convert(tmp_path)
    assert "it ran" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or cut short: EOFError"),
        (b"junk" * 9, "is damaged or cut short"),
        (b"version https://git-lfs", "is damaged or cut short"),
        ("half", "is damaged or cut short"),
        ({}, r"holds no tensors.*expected dense tensors by name"),
        ({"state_dict": {"x": torch.ones(2)}}, "holds no tensors, but state_dict"),
        ([torch.ones(2)], "holds list; expected tensors by name"),
        ({"x": torch.zeros(1).expand(700_000)}, "files describe tensors of 2,800,000 bytes: x repeat their numbers"),
        ({"x": torch.arange(9.0).as_strided((5, 5), (1, 1))}, "files describe tensors of 100 bytes: x repeat"),
        (
            dict.fromkeys(map(str, range(20)), torch.ones(10_000)),
            "describe tensors of 800,000 bytes: more than 8 times",
        ),
        ({"x": torch.zeros(3, device="meta")}, "tensors that are sparse, quantized or without numbers: x"),
        ({"x": torch.eye(2).to_sparse()}, "tensors that are sparse, quantized or without numbers: x"),
    ],
    ids=str,
)
def test_what_is_no_checkpoint_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"x": torch.ones(99)} if content == "half" else content, path)
    if content == "half":
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(WeightError, match=message):
        convert(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_compressed_archive_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"x": torch.zeros(2)}, tmp_path / "stored")
    with zipfile.ZipFile(tmp_path / "stored") as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as deflated:
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))
    with pytest.raises(WeightError, match=r"pytorch_model\.bin is a compressed archive; expected one that torch\.save"):
        convert(tmp_path)


def test_nothing_is_written_before_all_files_are_checked(tmp_path: Path) -> None:
    pickled("bert", tmp_path)
    (tmp_path / "2_Dense").mkdir()
    torch.save({"x": torch.zeros(1).expand(700_000)}, tmp_path / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(WeightError, match="x repeat their numbers"):
        convert(tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_single_pickle_counts_before_an_index(tmp_path: Path) -> None:
    tensors = pickled("bert", tmp_path)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "pytorch_model-00001-of-00001.bin"}}))
    convert(tmp_path)
    assert_holds(tmp_path, tensors)


def test_a_missing_shard_and_a_folder_without_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightError, match=r"holds no pytorch_model\.bin and no adapter_model\.bin"):
        convert(tmp_path)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "pytorch_model-00001-of-00001.bin"}}))
    with pytest.raises(WeightError, match=r"00001-of-00001\.bin is missing"):
        convert(tmp_path)
    index.write_text(json.dumps({"weight_map": {"x": "../x.bin"}}))
    with pytest.raises(WeightError, match="expected a weight_map from tensor names to files"):
        convert(tmp_path)


def test_a_result_that_does_not_fit_its_config_is_said(tmp_path: Path) -> None:
    tensors = pickled("bert", tmp_path)
    tensors.pop("embeddings.LayerNorm.weight")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    result = CliRunner().invoke(app, ["convert", str(tmp_path)])
    assert result.exit_code != 0
    assert "missing     embeddings.LayerNorm.weight" in str(result.exception)


def test_without_torch_the_error_names_what_to_install(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    code = "import sys; sys.modules['torch'] = None; from triform.cli import main; main()"
    command = [sys.executable, "-c", code, "convert", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "pip install 'triform[torch]'" in done.stderr
