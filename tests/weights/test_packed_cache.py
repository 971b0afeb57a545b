"""Packed weights in files: made once, mapped by the next start, gone when they must be, and never in the way."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import triform
from tests.weights import make, read_file, write_file
from tests.weights.packed import BATCH, answer, files
from triform.cli.main import app
from triform.engines.native import NativeEngine
from triform.errors import InputError
from triform.weights import PackedCache, packed_cache


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
    # Other weights under the same name, as after more training.
    weights = model / "model.safetensors"
    tensors = read_file(model)
    write_file(model, {name: tensor + 1 if "query.weight" in name else tensor for name, tensor in tensors.items()})
    changed = answer(model)
    assert len(files(cache)) == 4
    assert not np.array_equal(changed, first)
    os.utime(weights, ns=(0, 0))
    np.testing.assert_array_equal(answer(model), changed)
    assert len(files(cache)) == 5


def damaged(content: bytes) -> Iterator[bytes]:
    """Yield the content of a file after every kind of accident."""
    start = 8 + int.from_bytes(content[:8], "little")
    random = np.random.default_rng(0)
    for place in (*range(8), *random.integers(8, start, 60), *random.integers(start, len(content), 20)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(random.integers(8))
        # Another blank in place of a space behind the header has the same meaning.
        if flipped[8:start].strip() != content[8:start].strip() or place < 8 or place >= start:
            yield bytes(flipped)
    yield from (b"", content[:7], content[:start], content[:-1], content + b"\0", bytes(len(content)))
    header = json.loads(content[8:start])
    query, key = (f"blocks.0.attention.{name}.weight" for name in ("query", "key"))
    (begin, middle), (other, end) = (header[name]["data_offsets"] for name in (query, key))
    assert middle == other
    body = content[start:]
    yield content[:start] + body[:begin] + body[middle:end] + body[begin:middle] + body[end:]
    for changed in (
        header | {query: header[key], key: header[query]},
        header | {query: header[query] | {"dtype": "I32"}},
        header | {query: header[query] | {"shape": header[query]["shape"][::-1]}},
        {name: entry for name, entry in header.items() if name != "__metadata__"},
        header | {"__metadata__": header["__metadata__"] | {"digest": "0" * 32}},
    ):
        yield content[:8] + json.dumps(changed).encode().ljust(start - 8) + body


def test_a_damaged_file_is_noticed_and_made_again(model: Path, cache: Path) -> None:
    expected = answer(model)
    [file] = files(cache)
    content = file.read_bytes()
    for number, broken in enumerate(damaged(content)):
        file.write_bytes(broken)
        assert list(PackedCache(cache, 10**9).verify().values()) == [False], number
        np.testing.assert_array_equal(answer(model), expected)
        assert file.read_bytes() == content, number
        assert files(cache) == [file]


def test_a_file_under_the_name_of_another_is_made_again(model: Path, cache: Path) -> None:
    expected = [answer(model, dtype=dtype) for dtype in ("float32", "bfloat16")]
    one, other = files(cache)
    kept = one.read_bytes()
    os.rename(other, one)  # the file keeps the seal
    assert not PackedCache(cache, 10**9).verify()[one]
    for dtype, logits in zip(("float32", "bfloat16"), expected, strict=True):
        np.testing.assert_array_equal(answer(model, dtype=dtype), logits)
    assert one.read_bytes() == kept


def test_a_copy_is_read_before_it_is_trusted(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answer(model)
    [file] = files(cache)
    os.utime(file, (1, 1))
    monkeypatch.setattr(NativeEngine, "pack", None)
    np.testing.assert_array_equal(answer(model), expected)
    # And has its seal again.
    with monkeypatch.context() as no_reading:
        no_reading.setattr(packed_cache, "_has_content", None)
        np.testing.assert_array_equal(answer(model), expected)


def test_what_a_disk_loses_by_itself_is_found_by_verify(model: Path, cache: Path) -> None:
    answer(model)
    [file] = files(cache)
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert CliRunner().invoke(app, ["cache", "verify"]).exit_code != 0


def test_without_a_place_to_write_nothing_is_lost(model: Path, cache: Path) -> None:
    expected = answer(model)
    for file in files(cache):
        file.unlink()
    cache.rmdir()
    cache.write_text("no folder")
    np.testing.assert_array_equal(answer(model), expected)


def test_files_on_a_disk_for_reading_only_are_used(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answer(model)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("utime", "replace", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    with monkeypatch.context() as no_packing:
        no_packing.setattr(NativeEngine, "pack", None)
        np.testing.assert_array_equal(answer(model), expected)
    np.testing.assert_array_equal(answer(model, dtype="bfloat16"), answer(model, dtype="bfloat16"))
    assert len(files(cache)) == 1


LOAD = """
import sys, time
import triform
from triform.engines.native import NativeEngine
from triform.weights import loading
loading.LEAST_BYTES = 0
{before}
model = triform.load(sys.argv[1], engine="native")
print(float(model(triform.Batch.from_ids([[5, 6, 7], [8]])).logits.astype(float).sum()))
"""
SLOWLY = """
pack = NativeEngine.pack
def slowly(*arguments):
    time.sleep(0.05)
    print("packed", flush=True)
    return pack(*arguments)
NativeEngine.pack = slowly
"""
FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"


def start(model: Path, before: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOAD.format(before=before), str(model)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_full_disk_is_no_error(model: Path, cache: Path) -> None:
    output, errors = start(model, FULL_DISK).communicate()
    assert float(output) == float(answer(model).astype(float).sum()), errors
    assert len(files(cache)) == 1  # from this process only


def test_several_processes_and_threads_may_write_at_once(model: Path, cache: Path) -> None:
    processes = [start(model, SLOWLY) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: answer(model), range(4)))
    for process in processes:
        output, errors = process.communicate()
        assert float(output.split()[-1]) == float(answers[0].astype(float).sum()), errors
    for each in answers:
        np.testing.assert_array_equal(each, answers[0])
    [file] = files(cache)
    assert PackedCache(cache, 10**9).verify() == {file: True}


def test_killed_while_writing_it_leaves_nothing_that_is_trusted(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(model, SLOWLY)
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.kill()
    process.communicate()
    [partial] = files(cache)
    assert partial.suffix == ".partial"
    expected = answer(model)
    assert partial in files(cache)
    os.utime(partial, (1, 1))
    answer(model, dtype="bfloat16")
    assert partial not in files(cache)
    np.testing.assert_array_equal(answer(model), expected)
    monkeypatch.setenv("TRIFORM_CACHE", "off")
    np.testing.assert_array_equal(answer(model), expected)


def test_a_file_that_is_deleted_meanwhile_is_used_to_the_end(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer(model)
    adopt = NativeEngine.adopt

    def deleted(engine: NativeEngine, *arguments: Any) -> Any:
        PackedCache(cache, 10**9).clear()
        return adopt(engine, *arguments)

    monkeypatch.setattr(NativeEngine, "adopt", deleted)
    np.testing.assert_array_equal(answer(model), expected)
    assert not files(cache)


def test_the_limit_takes_what_was_not_used_for_the_longest_time(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(model, dtype="float32")
    [first] = files(cache)
    answer(model, dtype="bfloat16")
    for file in files(cache):
        ago = time.time() - (100 if file == first else 50)
        os.utime(file, (ago, ago))
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
    assert len(PackedCache(cache, 10**9).clear()) == 1
    assert len(files(cache)) == 2


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
