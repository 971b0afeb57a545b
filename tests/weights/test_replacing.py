"""A checkpoint over another: the old or the new one, whenever the process ends; and nothing outside of the folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.torch import save_file

import triform
from tests.weights import make, read_file
from triform.errors import CheckpointWarning, InputError, ModelNotFoundError, OutputError, TriformError
from triform.model import load
from triform.replacing import MANIFEST, STAGE, replacing_files, write_json

BATCH = triform.Batch.from_ids([[5, 6, 7], [8]])

KILLED = """
import os, pathlib, signal, sys
import triform
from triform.model.export import quantize_checkpoint
source, target, moment, kind = sys.argv[1:]
left = int(moment)
def counted(call):
    def wrapper(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return wrapper
model = triform.load(source)
for name in ("replace", "mkdir", "unlink", "fsync", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
if kind == "save":
    model.save(target)
else:
    quantize_checkpoint(model.blueprint, triform.engines.FORMATS["int8"], pathlib.Path(target))
"""


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Return a folder with two models: old, and new with other weights, labels and settings files."""
    for name in ("old", "new"):
        make("bert-sequence", tmp_path / name)
        (tmp_path / name / "vocab.txt").write_text(f"[PAD]\n[UNK]\n{name}\n")
        write_json(tmp_path / name / f"{name}.json", {})
    write_json(tmp_path / "old" / "special_tokens_map.json", {"unk_token": "[UNK]"})
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    labels = [f"NEW {number}" for number in config["id2label"]]
    config |= {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    write_json(tmp_path / "new" / "config.json", config)
    tensors = read_file(tmp_path / "new")
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, tmp_path / "new" / "model.safetensors")
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder that are not hidden."""
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in paths.items() if not name.parts[0].startswith(".")}


def interrupted(source: Path, target: Path, old: Path, kind: str) -> Iterator[int]:
    """Write over copies of a checkpoint; kill the process at each change of the disk until one process ends."""
    for moment in range(1, 200):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(old, target)
        command = [
            sys.executable,
            "-c",
            KILLED,
            str(target if source == old else source),
            str(target),
            str(moment),
            kind,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        yield moment


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["save over another", "quantize over itself"])
def test_killed_at_any_moment_a_folder_has_the_old_or_the_new_checkpoint(checkpoints: Path, kind: str) -> None:
    target = checkpoints / "target"
    old = checkpoints / "old"
    source = checkpoints / "new" if kind.startswith("save") else old
    before, moments, outcomes = content(old), 0, set()
    whole = content_after(source, target, old, kind)
    for _ in interrupted(source, target, old, kind.split()[0]):
        moments += 1
        seen = content(target)
        if seen not in (before, whole):
            # Half and half: no other program finds a model there.
            with pytest.raises((OSError, ValueError)):
                transformers.AutoModelForSequenceClassification.from_pretrained(str(target))
        answer: Any = load(target)(BATCH).logits
        after = content(target)
        assert after in (before, whole)
        assert np.isfinite(answer).all()
        outcomes.add(after == whole)
    assert moments > 8
    assert outcomes == {True, False}
    assert sorted(path.name for path in target.iterdir() if path.name.startswith(".")) == []


def content_after(source: Path, target: Path, old: Path, kind: str) -> dict[str, bytes]:
    """Return the files after writing without an interruption."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(old, target)
    if kind.startswith("save"):
        triform.load(source).save(target)
    else:
        triform.load(target, dtype="int8").save(target)
    return content(target)


def test_no_settings_of_the_old_checkpoint_stay_and_other_files_do(checkpoints: Path) -> None:
    triform.load(checkpoints / "new").save(checkpoints / "old")
    found = content(checkpoints / "old")
    assert {**content(checkpoints / "new"), "old.json": found["old.json"]}.keys() == found.keys()
    assert found["vocab.txt"] == b"[PAD]\n[UNK]\nnew\n"


@pytest.mark.parametrize(
    "manifest",
    [
        "{",
        "[]",
        '{"files": 7, "stale": []}',
        '{"files": ["../x"], "stale": []}',
        '{"files": [], "stale": ["/etc/passwd"]}',
        '{"files": ["a/b"], "stale": []}',
    ],
)
def test_a_damaged_manifest_is_refused_and_moves_nothing(manifest: str, tmp_path: Path) -> None:
    make("bert", tmp_path / "model")
    before = content(tmp_path / "model")
    (tmp_path / "outside").mkdir()
    (tmp_path / "model" / "a").symlink_to(tmp_path / "outside")
    stage = tmp_path / "model" / STAGE
    (stage / "a").mkdir(parents=True)
    (stage / "a" / "b").write_text("")
    (stage / MANIFEST).write_text(manifest)
    with pytest.raises(ModelNotFoundError, match="interrupted, and cannot be completed"):
        triform.load(tmp_path / "model")
    assert content(tmp_path / "model") == before
    assert not list((tmp_path / "outside").iterdir())


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with (
        replacing_files(tmp_path) as new,
        pytest.raises(InputError, match="is being written by another process"),
        replacing_files(tmp_path),
    ):
        raise AssertionError
    assert not new.exists()


def test_links_in_the_target_are_replaced_and_not_followed(tmp_path: Path) -> None:
    make("bert", tmp_path / "model")
    victim = tmp_path / "victim"
    victim.write_text("kept")
    model = triform.load(tmp_path / "model")
    for name in (".config.json.partial", STAGE, "config.json", "model.safetensors"):
        (tmp_path / "model" / name).unlink(missing_ok=True)
        (tmp_path / "model" / name).symlink_to(victim)
    model.save(tmp_path / "model")
    assert victim.read_text() == "kept"
    assert not (tmp_path / "model" / "config.json").is_symlink()
    triform.load(tmp_path / "model")
    (tmp_path / "model" / "1_Pooling").mkdir()
    write_json(tmp_path / "model" / "1_Pooling" / "config.json", {})
    (tmp_path / "target").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target" / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"1_Pooling/config.json does not lie inside of"):
        model.save(tmp_path / "target")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["1_Pooling"]


def test_links_out_of_the_source_are_not_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make("bert", source)
    (tmp_path / "secret.txt").write_text("secret")
    (source / "notes.txt").symlink_to(tmp_path / "secret.txt")
    write_json(source / "real.json", {})
    (source / "inner.json").symlink_to(source / "real.json")
    with pytest.warns(CheckpointWarning, match=r"notes.txt is not copied: it is a link to .*secret.txt"):
        triform.load(source).save(tmp_path / "target")
    assert not (tmp_path / "target" / "notes.txt").exists()
    assert (tmp_path / "target" / "inner.json").read_bytes() == (source / "real.json").read_bytes()
    (source / "notes.txt").unlink()
    with (source / "large.txt").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.warns(CheckpointWarning, match=r"large.txt is not copied: it has more than"):
        triform.load(source).save(tmp_path / "target")


def test_links_into_the_cache_of_the_hub_are_copied(tmp_path: Path) -> None:
    make("bert", tmp_path / "made")
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    shutil.move(tmp_path / "made", blobs)
    write_json(blobs / "vocab.json", {"a": 0})
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    triform.load(snapshot).save(tmp_path / "target")
    assert (tmp_path / "target" / "vocab.json").read_bytes() == (blobs / "vocab.json").read_bytes()


def test_an_output_inside_of_the_input_is_refused(tmp_path: Path) -> None:
    make("bert", tmp_path / "model")
    model = triform.load(tmp_path / "model")
    for inside in (tmp_path / "model" / "q", tmp_path / "model" / "a" / ".." / "b"):
        with pytest.raises(InputError, match="lies inside of"):
            model.save(inside)
    assert content(tmp_path / "model").keys() == {"config.json", "model.safetensors"}


def test_an_error_of_the_system_names_the_file_and_the_remains(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"x.json cannot be written: .* The file that was there is unchanged"):
        write_json(tmp_path / "missing" / "x.json", {})
    assert issubclass(OutputError, TriformError)
    assert issubclass(OutputError, OSError)
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="Permission denied"):
            write_json(tmp_path / "x.json", {})
