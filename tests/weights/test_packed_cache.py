"""Packed weights in files: made once, mapped by the next start, gone when they must be, and never in the way."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import triform
from tests.weights import make, read_file, write_file
from triform.cli.main import app
from triform.errors import InputError
from triform.weights import PackedCache, loading

BATCH = triform.Batch.from_ids([[5, 6, 7], [8]])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that keeps models of any size."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRIFORM_CACHE", str(folder))
    monkeypatch.setattr(loading, "LEAST_BYTES", 0)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make("bert-masked-lm", tmp_path / "model")
    return tmp_path / "model"


def answer(model: Path, **arguments: Any) -> Any:
    return triform.load(model, engine="native", **arguments)(BATCH).logits


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*"))


def test_the_second_start_maps_what_the_first_has_packed(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIFORM_CACHE", "off")
    expected = answer(model)
    assert not cache.exists()
    monkeypatch.setenv("TRIFORM_CACHE", str(cache))
    np.testing.assert_array_equal(answer(model), expected)
    [file] = files(cache)
    before = file.stat().st_ino
    loaded = triform.load(model, engine="native")
    with monkeypatch.context() as no_packing:
        no_packing.setattr(type(loaded.engine), "pack", None)
        again = triform.load(model, engine="native")
    np.testing.assert_array_equal(again(BATCH).logits, expected)
    assert file.stat().st_ino == before
    array = again.parameters["blocks.0.attention.query.weight"].array  # type: ignore[attr-defined]
    assert not array.flags.writeable
    again.save(model.parent / "saved")
    np.testing.assert_array_equal(answer(model.parent / "saved"), expected)


def test_each_format_and_each_version_of_a_model_has_its_own_file(model: Path, cache: Path) -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        first = answer(model, dtype=dtype)
        np.testing.assert_array_equal(answer(model, dtype=dtype), first)
    assert len(files(cache)) == 3
    # Other weights under the same name: a folder that was trained further.
    weights = model / "model.safetensors"
    tensors = read_file(model)
    write_file(model, {name: tensor + 1 if "query.weight" in name else tensor for name, tensor in tensors.items()})
    changed = answer(model)
    assert len(files(cache)) == 4
    assert not np.array_equal(changed, first)
    os.utime(weights, ns=(0, 0))
    np.testing.assert_array_equal(answer(model), changed)
    assert len(files(cache)) == 5


def test_a_damaged_file_is_made_again(model: Path, cache: Path) -> None:
    expected = answer(model)
    [file] = files(cache)
    file.write_bytes(file.read_bytes()[:-10])
    np.testing.assert_array_equal(answer(model), expected)
    assert CliRunner().invoke(app, ["cache", "verify"]).exit_code == 0


def test_without_a_place_to_write_nothing_is_lost(model: Path, cache: Path) -> None:
    expected = answer(model)
    for file in files(cache):
        file.unlink()
    cache.rmdir()
    cache.write_text("no folder")
    np.testing.assert_array_equal(answer(model), expected)


def test_the_limit_takes_what_was_not_used_for_the_longest_time(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(model, dtype="float32")
    [first] = files(cache)
    os.utime(first, (time.time() - 100, time.time() - 100))
    answer(model, dtype="bfloat16")
    size = sum(file.stat().st_size for file in files(cache))
    answer(model, dtype="float32")  # used again
    monkeypatch.setenv("TRIFORM_CACHE_LIMIT", str((size + 1) / 1e9))
    answer(model, dtype="float16")
    assert first in files(cache)
    assert len(files(cache)) == 2
    monkeypatch.setenv("TRIFORM_CACHE_LIMIT", "0")
    np.testing.assert_array_equal(answer(model, dtype="float16"), answer(model, dtype="float16"))
    monkeypatch.setenv("TRIFORM_CACHE_LIMIT", "much")
    with pytest.raises(InputError, match="TRIFORM_CACHE_LIMIT='much': expected a number of gigabytes"):
        answer(model)


def test_what_belongs_to_no_model_any_more_goes_with_the_next(model: Path, cache: Path) -> None:
    answer(model)
    [orphan] = files(cache)
    make("bert-masked-lm", model.parent / "other")
    shutil.rmtree(model)
    answer(model.parent / "other")
    [file] = files(cache)
    assert file != orphan


def test_files_of_others_are_left_alone(model: Path, cache: Path) -> None:
    cache.mkdir()
    for name, metadata in (("plain", {}), ("odd", {"files": "{", "source": "", "packing": "", "digest": ""})):
        save_file({"x": np.zeros(1, np.float32)}, cache / f"{name}.safetensors", metadata)
    answer(model)
    assert len(files(cache)) == 3
    assert len(list(PackedCache(cache, 10**9).entries())) == 1


def test_commands(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner()
    answer(model)
    listed = run.invoke(app, ["cache", "list", "--json"])
    assert json.loads(listed.output)["source"] == str(model)
    assert "1 files in" in run.invoke(app, ["cache", "list"]).output
    assert run.invoke(app, ["cache", "verify"]).output == "1 files are as they were written.\n"
    [file] = files(cache)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "1 of 1 files are damaged" in str(run.invoke(app, ["cache", "verify"]).exception)
    assert run.invoke(app, ["cache", "clear"]).output == "1 files deleted.\n"
    assert not files(cache)
    monkeypatch.setenv("TRIFORM_CACHE", "off")
    assert "The cache is off" in run.invoke(app, ["cache", "list"]).output


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRIFORM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = PackedCache.from_environment()
    assert found is not None
    assert found.folder == tmp_path / "triform"
    assert found.limit == 20_000_000_000
