"""Packed weights that may not be used: of other weights, of another size, or from a folder that others may write to."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.weights import read_file
from tests.weights.packed import answer, files
from triform.cli.main import app
from triform.errors import CacheWarning, InputError
from triform.weights import PackedCache, packed_cache
from triform.weights.tensors import read_header


def put_in_place(weights: Path, tensors: dict[str, Any], *, in_place: bool) -> None:
    """Write other weights of the same size and time, over the file or under its name."""
    before = weights.stat()
    new = weights.with_name("new")
    save_file(tensors, new, metadata={"format": "pt"})
    assert new.stat().st_size == before.st_size
    if in_place:
        weights.write_bytes(new.read_bytes())
        new.unlink()
    else:
        os.replace(new, weights)
    os.utime(weights, ns=(before.st_mtime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("is_sample_equal", [True, False])
def test_other_weights_of_the_same_size_and_time_are_noticed(
    in_place: bool, is_sample_equal: bool, model: Path, cache: Path
) -> None:
    weights, tensors = model / "model.safetensors", read_file(model)
    save_file(tensors, weights, metadata={"format": "pt"})
    before = answer(model)
    changed = {name: tensor.clone() for name, tensor in tensors.items()}
    for name, tensor in changed.items():
        if "query.weight" in name:
            tensor[: 1 if is_sample_equal else None] *= -3  # the sample is from the middle
    put_in_place(weights, changed, in_place=in_place)
    after = answer(model)
    assert not np.array_equal(after, before)
    assert len(files(cache)) == 2


def test_weights_are_recognised_by_their_content_where_a_disk_keeps_no_times(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, tensors = model / "model.safetensors", read_file(model)
    save_file(tensors, weights, metadata={"format": "pt"})
    before, still, resolved = answer(model), weights.stat(), weights.resolve()
    monkeypatch.setattr(Path, "stat", lambda self, **_: still if self == resolved else os.stat(self))
    put_in_place(weights, {name: tensor * -1 for name, tensor in tensors.items()}, in_place=True)
    assert not np.array_equal(answer(model), before)


def forged(path: Path, change: Any) -> None:
    """Change header and tensors of a packed file, with digests and seal as the cache itself writes them."""
    header, start = packed_cache._header(path)
    known = header.pop("__metadata__")
    body = change(known, header, path.read_bytes()[start:])
    known.pop("header")
    known["header"] = packed_cache._digest_of_header(path, header | {"__metadata__": known})
    text = json.dumps(header | {"__metadata__": known}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    packed_cache._note_use(path, {"__metadata__": known})


def shrink(known: dict[str, str], header: dict[str, Any], body: bytes) -> bytes:
    small = b""
    for name, entry in header.items():
        array = np.ones((1, 1, 32), np.float32).tobytes()
        header[name] = entry | {"shape": [1, 1, 32], "data_offsets": [len(small), len(small) + len(array)]}
        small += array
    return small


def rename(known: dict[str, str], header: dict[str, Any], body: bytes) -> bytes:
    for name in list(header):
        header[f"other.{name}"] = header.pop(name)
    return body


def retype(known: dict[str, str], header: dict[str, Any], body: bytes) -> bytes:
    for name, entry in header.items():
        header[name] = entry | {"dtype": "I32"}
    return body


@pytest.mark.parametrize("change", [shrink, rename, retype])
def test_packed_weights_that_do_not_fit_the_model_are_not_used(change: Any, model: Path, cache: Path) -> None:
    expected = answer(model)
    [file] = files(cache)
    forged(file, change)
    np.testing.assert_array_equal(answer(model), expected)


@pytest.mark.parametrize("files_", [None, "{", "[1]", '"a"', "7", '["\\u0000"]', "[" * 100_000])
@pytest.mark.parametrize("lacking", [None, "source", "packing", "digest"])
def test_a_file_with_odd_metadata_hinders_no_model(
    files_: str | None, lacking: str | None, model: Path, cache: Path
) -> None:
    expected = answer(model)
    [file] = files(cache)
    odd = cache / f"{'0' * 32}.safetensors"
    shutil.copy(file, odd)

    def change(known: dict[str, str], header: dict[str, Any], body: bytes) -> bytes:
        known.pop("files")
        if files_ is not None:
            known["files"] = files_
        known.pop(lacking or "", None)
        return body

    # The digest of the header depends on the name of the file.
    header, start = read_header(odd)
    known = {key: value for key, value in header["__metadata__"].items() if key != "header"}
    known["header"] = packed_cache._digest_of_header(odd, header | {"__metadata__": known})
    text = json.dumps(header | {"__metadata__": known}).encode()
    odd.write_bytes(len(text).to_bytes(8, "little") + text + odd.read_bytes()[start:])
    forged(odd, change)
    file.unlink()
    np.testing.assert_array_equal(answer(model), expected)
    run = CliRunner()
    listed = run.invoke(app, ["cache", "list", "--json"])
    assert listed.exit_code == 0
    assert json.loads(listed.output)["source"] == str(model)
    run.invoke(app, ["cache", "list"])
    is_odd_sound = PackedCache(cache, 10**9).verify().get(odd, False)
    assert not is_odd_sound or (files_ is not None and lacking is None)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners of files")
def test_a_folder_that_others_may_write_to_is_not_trusted(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer(model)
    assert cache.stat().st_mode & 0o777 == 0o700
    [file] = files(cache)
    forged(file, lambda known, header, body: (-0.5 * np.frombuffer(body, np.float32)).astype(np.float32).tobytes())
    assert not np.array_equal(answer(model), expected)  # a user with the right to write there chooses the weights
    for mode in (0o770, 0o777, 0o1777):
        cache.chmod(mode)
        with pytest.warns(CacheWarning, match="Others may write to .* the packed cache is off"):
            np.testing.assert_array_equal(answer(model), expected)
    cache.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(cache, 54321, 54321)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.warns(CacheWarning, match="belongs to another user"):
        np.testing.assert_array_equal(answer(model), expected)


NO_HOME = """
import os, sys, warnings
for name in ("HOME", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
import pwd
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
import triform
from triform.weights import PackedCache
print(PackedCache.from_environment())
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users of POSIX")
def test_a_user_without_a_home_has_no_cache_or_the_one_that_is_named(tmp_path: Path) -> None:
    def found(place: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"TRIFORM_CACHE": place}
        command = [sys.executable, "-W", "always", "-c", NO_HOME]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    assert f"{str(tmp_path)!r}" in found(str(tmp_path)).stdout
    assert found(str(tmp_path)).stderr == ""
    assert found("").stdout == "None\n"
    assert "CacheWarning: This user has no home folder. Set HOME or TRIFORM_CACHE to a folder" in found("").stderr
    assert found("off").stderr == ""


def test_a_folder_of_an_unknown_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIFORM_CACHE", "~nobody-has-this-name/x")
    with pytest.raises(InputError, match="TRIFORM_CACHE='~nobody-has-this-name/x': .* Name a folder, or off"):
        PackedCache.from_environment()
