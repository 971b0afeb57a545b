"""Other content or kinds of file in place of a checkpoint file, and sound tokenizers of another model."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.damage.conftest import Worker
from tests.damage.soundness import Sound

FILES = [
    *(
        ("sentences", name)
        for name in ("config.json", "model.safetensors", "vocab.txt", "modules.json", "added_tokens.json")
    ),
    *(("llama", name) for name in ("tokenizer.json", "generation_config.json", "model.safetensors.index.json")),
    *(("marian", name) for name in ("source.spm", "vocab.json")),
]


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "loop", "huge"])
@pytest.mark.parametrize(("name", "file"), FILES)
def test_no_file(worker: Worker, sound: dict[str, Sound], tmp_path: Path, name: str, file: str, kind: str) -> None:
    copy = replace(sound[name], folder=shutil.copytree(sound[name].folder, tmp_path / "copy"))
    path = copy.folder / file
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "huge":
            with path.open("wb") as stream:
                stream.truncate(2**33)
    worker.attempt(copy)


def test_tokenizer_of_another_model(worker: Worker, sound: dict[str, Sound], tmp_path: Path) -> None:
    copy = replace(sound["labels"], folder=shutil.copytree(sound["labels"].folder, tmp_path / "copy"))
    path = copy.folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [2_000_000_000]
    path.write_text(json.dumps(content))
    # With BertTokenizer the ids of the vocabulary count.
    (copy.folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert "[CLS]" in worker.attempt(copy)
