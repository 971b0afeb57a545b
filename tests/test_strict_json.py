"""JSON of files that may be damaged: its memory is bounded before a value is made."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest

import triform
from tests.weights import make
from triform import strict_json
from triform.errors import ModelError


@pytest.mark.parametrize("value", [b"[]", b"{}", b'{"a":0}', b"0", b'""', b"[[[0]]]"])
def test_a_file_of_small_values_is_refused_before_they_are_made(value: bytes) -> None:
    content = b"[" + b",".join([value] * (strict_json.MAX_BYTES // 4 // (len(value) + 1))) + b"]"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more values than such a file can need"):
            strict_json.loads(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_vocabularies_as_large_as_any_are_read() -> None:
    vocabulary = {f"token {number}, {{": number for number in range(300_000)}
    merges = [["a", "b"]] * 500
    assert strict_json.loads(json.dumps({"vocab": vocabulary, "merges": merges}).encode())["vocab"] == vocabulary


@pytest.mark.parametrize("content", [{"x": [[]] * 3_000_000}, {f"key {number}": "x" * 200 for number in range(5_000)}])
def test_a_message_about_a_large_value_is_short(content: object, tmp_path: Path) -> None:
    make("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **content}))  # type: ignore[dict-item]
    with pytest.raises(ModelError) as caught:
        triform.load(tmp_path)
    assert len(str(caught.value)) < 10_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json"])
def test_a_pipe_in_place_of_a_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    make("bert", tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    if name.endswith("index.json"):
        (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        triform.load(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_in_place_of_a_shard_of_a_pickle_is_refused_at_once(tmp_path: Path) -> None:
    from triform.weights.convert import convert

    os.mkfifo(tmp_path / "pipe.bin")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"x": "pipe.bin"}}))
    with pytest.raises(ModelError, match="not a regular file"):
        convert(tmp_path)
