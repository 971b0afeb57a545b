"""Finding a model: in a folder, in the cache, or on a Hub server in the test process."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from triform.errors import ModelNotFoundError, TriformError
from triform.hub import Checkpoint, find_checkpoint
from triform.weights import open_tensors

FIRST, SECOND = "1" * 40, "2" * 40
WANTED = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "1_Pooling/config.json": b"{}",
    "vocab.txt": b"[PAD]",
}
UNWANTED = {
    "pytorch_model.bin": b"pickle",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    **dict.fromkeys(["tf_model.h5", "flax_model.msgpack", "model.fp16.safetensors", "README.md"], b""),
}


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class FakeHub(ThreadingHTTPServer):
    """A server speaks the part of the Hub's protocol for `snapshot_download`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.commits: dict[str, dict[str, bytes]] = {FIRST: {**WANTED, **UNWANTED}, SECOND: {**WANTED}}
        self.revisions = {"main": FIRST, "v2": SECOND, FIRST: FIRST, SECOND: SECOND}


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith(("/api/models/org/gated", "/org/terms")):
            self.answer(403, code="GatedRepo")
        elif found := re.fullmatch(r"/api/models/org/(?:tiny|terms)/tree/([^/]+)", path):
            self.list_files(found[1])
        elif found := re.fullmatch(r"/api/models/org/(?:tiny|terms)(?:/revision/([^/]+))?", path):
            commit = self.server.revisions.get(found[1] or "main")
            content = json.dumps({"id": "org/tiny", "sha": commit}).encode()
            self.answer(200, content) if commit else self.answer(404, code="RevisionNotFound")
        elif found := re.fullmatch(r"/org/tiny/resolve/([^/]+)/(.+)", path):
            content = self.server.commits[found[1]][found[2]]
            self.answer(200, content, **{"ETag": f'"{digest(content)}"', "X-Repo-Commit": found[1]})
        else:
            self.answer(404, code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def list_files(self, revision: str) -> None:
        files = self.server.commits.get(self.server.revisions.get(revision, ""), {})
        sizes = [{"type": "file", "path": name, "size": len(c), "oid": digest(c)} for name, c in files.items()]
        self.answer(200, json.dumps(sizes).encode())

    def answer(self, status: int, content: bytes = b"", *, code: str = "", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "X-Error-Code": code, **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


FIND = """
import json, sys, time
time.sleep = lambda seconds: None  # the Hub's client waits before it tries again
from triform.errors import TriformError
from triform.hub import find_checkpoint
try:
    found = find_checkpoint(sys.argv[1], revision=sys.argv[2] or None)
    print(json.dumps([str(found.folder), found.source, found.revision]))
except TriformError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""

FETCH = "import sys, huggingface_hub; huggingface_hub.snapshot_download(sys.argv[1], allow_patterns=sys.argv[2:])"


class Elsewhere:
    """A second process with a separate cache: the Hub's client reads the environment only once."""

    def __init__(self, hub: FakeHub, home: Path) -> None:
        self.cache = home / "cache"
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self.environment = {
            **kept,
            "HOME": str(home),
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(self.cache),
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def run(self, code: str, model: str, *arguments: str, **environment: str) -> str:
        command, env = [sys.executable, "-W", "error", "-c", code, model, *arguments], self.environment | environment
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def find(self, model: str = "org/tiny", *, revision: str = "", **environment: str) -> Checkpoint:
        folder, source, commit = json.loads(self.run(FIND, model, revision, **environment))
        return Checkpoint(Path(folder), source, commit)

    def refuse(self, model: str = "org/tiny", *, revision: str = "", **environment: str) -> str:
        kind, message = json.loads(self.run(FIND, model, revision, **environment))
        assert kind == "ModelNotFoundError"
        return str(message)

    def fetch_some(self, *files: str) -> None:
        """Fill the cache as another program does that needs only these files."""
        self.run(FETCH, "org/tiny", *files)


@pytest.fixture
def elsewhere(hub: FakeHub, tmp_path: Path) -> Elsewhere:
    return Elsewhere(hub, tmp_path)


def files_of(checkpoint: Checkpoint) -> dict[str, bytes]:
    folder = checkpoint.folder
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_model_is_fetched_once_and_without_what_is_not_needed(hub: FakeHub, elsewhere: Elsewhere) -> None:
    checkpoint = elsewhere.find()
    assert (checkpoint.source, checkpoint.revision) == ("org/tiny", FIRST)
    assert files_of(checkpoint) == WANTED
    assert not [path for path in hub.requests if any(path.endswith(f"/{name}") for name in UNWANTED)]
    # The cached files stay in use without a request, even if the Hub has a newer version.
    hub.requests.clear()
    hub.revisions["main"] = SECOND
    assert elsewhere.find() == checkpoint
    assert elsewhere.find(HF_HUB_OFFLINE="1") == checkpoint
    assert elsewhere.find(HF_ENDPOINT="http://127.0.0.1:9") == checkpoint
    assert not hub.requests


@pytest.mark.slow
@pytest.mark.parametrize("revision", ["v2", SECOND])
def test_a_revision_is_fetched_beside_another(revision: str, elsewhere: Elsewhere) -> None:
    assert elsewhere.find().revision == FIRST
    checkpoint = elsewhere.find(revision=revision)
    assert checkpoint.revision == checkpoint.folder.name == SECOND
    assert elsewhere.find(revision=revision, HF_HUB_OFFLINE="1") == checkpoint
    assert elsewhere.find(HF_HUB_OFFLINE="1").revision == FIRST


def test_an_unknown_revision_is_named(elsewhere: Elsewhere) -> None:
    assert elsewhere.refuse(revision="v9").startswith("org/tiny has no revision 'v9'. Name a branch, tag or commit")


def test_an_unknown_model_is_named_with_what_to_check(elsewhere: Elsewhere) -> None:
    message = elsewhere.refuse("org/nothing")
    assert "'org/nothing' is neither a folder here nor a model on the Hub" in message
    assert "Check the spelling; for a private" in message


@pytest.mark.parametrize("model", ["org/gated", "org/terms"], ids=["all of it", "its files"])
def test_a_gated_model_says_how_to_get_access(model: str, elsewhere: Elsewhere) -> None:
    assert elsewhere.refuse(model).startswith(f"{model} is gated. Accept its terms on the Hub and set HF_TOKEN")


def test_offline_an_unknown_model_says_that_it_is_offline(hub: FakeHub, elsewhere: Elsewhere) -> None:
    message = elsewhere.refuse(HF_HUB_OFFLINE="1")
    assert message.startswith("org/tiny is not complete in the local cache, and HF_HUB_OFFLINE forbids to fetch it")
    assert "Fetch it once online, or name a local folder" in message
    assert not hub.requests


def test_a_hub_that_cannot_be_reached_is_told_from_one_that_lacks_the_model(elsewhere: Elsewhere) -> None:
    message = elsewhere.refuse(HF_ENDPOINT="http://127.0.0.1:9")
    assert message.startswith("org/tiny could not be fetched from the Hub")
    assert "Name a local folder instead?" in message


@pytest.mark.slow
@pytest.mark.parametrize("some", [("config.json",), ("config.json", "model.safetensors"), ("tokenizer.json",)], ids=str)
def test_what_another_program_fetched_in_part_is_completed(some: tuple[str, ...], elsewhere: Elsewhere) -> None:
    elsewhere.fetch_some(*some)
    assert "not complete in the local cache" in elsewhere.refuse(HF_HUB_OFFLINE="1")
    assert files_of(elsewhere.find()) == WANTED


@pytest.fixture
def old_cache(elsewhere: Elsewhere) -> Elsewhere:
    """Return a cache as older Hub clients leave a cache, without file listings."""
    elsewhere.fetch_some("config.json", "tokenizer.json")
    for listing in elsewhere.cache.rglob("trees/*.json"):
        listing.unlink()
    return elsewhere


def test_an_old_cache_is_completed(old_cache: Elsewhere) -> None:
    assert files_of(old_cache.find()) == WANTED


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=str)
def test_an_old_cache_that_cannot_be_completed_is_refused(change: dict[str, str], old_cache: Elsewhere) -> None:
    assert "org/tiny" in old_cache.refuse(**change)


@pytest.mark.slow
def test_a_missing_shard_is_fetched(hub: FakeHub, elsewhere: Elsewhere) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = json.dumps({"weight_map": {"x": shards[0], "y": shards[1]}}).encode()
    wanted = {**WANTED, "model.safetensors.index.json": index, shards[0]: b"1", shards[1]: b"2"}
    del wanted["model.safetensors"]
    hub.commits[FIRST] = wanted
    elsewhere.fetch_some("*.json", shards[0])
    assert "not complete" in elsewhere.refuse(HF_HUB_OFFLINE="1")
    assert files_of(elsewhere.find()) == wanted
    assert elsewhere.find(HF_HUB_OFFLINE="1").revision == FIRST


def test_offline_a_cache_that_lacks_only_what_is_not_needed_will_do(elsewhere: Elsewhere) -> None:
    elsewhere.fetch_some("config.json", "model.safetensors", "tokenizer.json")
    assert elsewhere.find(HF_HUB_OFFLINE="1").revision == FIRST


@pytest.mark.slow
@pytest.mark.parametrize("index", [b"{", b"[]", b'{"weight_map": []}', b'{"weight_map": {"x": 3}}'], ids=repr)
def test_a_damaged_index_on_the_hub_is_an_error_of_the_model(index: bytes, hub: FakeHub, elsewhere: Elsewhere) -> None:
    hub.commits[FIRST]["model.safetensors.index.json"] = index
    elsewhere.find()
    elsewhere.run(FIND, "org/tiny", "")


def test_the_id_of_an_adapter_is_found_as_a_model(hub: FakeHub, elsewhere: Elsewhere) -> None:
    wanted = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"small", "tokenizer.json": b"{}"}
    hub.commits[FIRST] = {**wanted, "adapter_model.bin": b"pickle"}
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert files_of(elsewhere.find(**environment)) == wanted


def test_the_single_file_counts_before_an_index(hub: FakeHub, elsewhere: Elsewhere) -> None:
    index = json.dumps({"weight_map": {"x": "model-00001-of-00001.safetensors"}}).encode()
    hub.commits[FIRST] = {**WANTED, "model.safetensors.index.json": index}
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert files_of(elsewhere.find(**environment)) == hub.commits[FIRST]


FIND_ADAPTER = FIND.replace("import find_checkpoint", "import ADAPTER, find_checkpoint").replace(
    "or None)", "or None, files=ADAPTER)"
)


def test_an_adapter_is_fetched_without_what_else_there_is(hub: FakeHub, elsewhere: Elsewhere) -> None:
    wanted = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"small"}
    hub.commits[FIRST] = {**wanted, "model.safetensors": b"merged", "adapter_model.bin": b"pickle"}
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        folder, _, revision = json.loads(elsewhere.run(FIND_ADAPTER, "org/tiny", "", **environment))
        assert files_of(Checkpoint(Path(folder), "org/tiny")) == wanted
        assert revision == FIRST
    kind, message = json.loads(elsewhere.run(FIND_ADAPTER, "org/tiny", "v2"))
    assert kind == "ModelNotFoundError"
    assert "of adapter_config.json and its .safetensors files, some are missing" in message


CONVERT = """
import sys
from triform.weights.convert import convert
print(convert(sys.argv[1]).folder)
"""


@pytest.mark.slow
def test_a_transformer_in_a_folder_of_its_own_is_fetched(hub: FakeHub, elsewhere: Elsewhere) -> None:
    files = hub.commits[FIRST]
    hub.commits[FIRST] = {"modules.json": b"[]", **{f"0_BERT/{name}": content for name, content in files.items()}}
    folder = elsewhere.find().folder
    assert (folder / "0_BERT" / "model.safetensors").read_bytes() == files["model.safetensors"]
    hub.requests.clear()
    assert elsewhere.find().folder == folder
    assert not hub.requests


@pytest.mark.slow
def test_a_model_with_only_pickles_is_refused_with_the_command_that_fetches_and_converts_them(
    hub: FakeHub, elsewhere: Elsewhere
) -> None:
    torch.save({"x": torch.arange(3.0)}, elsewhere.cache.parent / "x.bin")
    pickle = (elsewhere.cache.parent / "x.bin").read_bytes()
    del hub.commits[FIRST]["model.safetensors"]
    hub.commits[FIRST] |= {"pytorch_model.bin": pickle, "2_Dense/pytorch_model.bin": pickle}
    message = elsewhere.refuse()
    assert "only in .bin files, pickles" in message
    assert message.endswith("triform convert org/tiny")
    assert elsewhere.refuse(revision=FIRST).endswith(f"triform convert org/tiny --revision {FIRST}")
    assert not [path for path in hub.requests if "resolve" in path and path.endswith(".bin")]
    folder = Path(elsewhere.run(CONVERT, "org/tiny").strip())
    assert (folder / "2_Dense" / "model.safetensors").is_file()
    hub.requests.clear()
    checkpoint = elsewhere.find()
    assert checkpoint.folder == folder
    assert not hub.requests
    np.testing.assert_array_equal(open_tensors(checkpoint).read("x").array, [0, 1, 2])
    # If the model has safetensors, only pickles of the modules are fetched and converted.
    hub.commits[SECOND] |= {"2_Dense/pytorch_model.bin": pickle}
    hub.revisions["main"] = SECOND
    assert not (elsewhere.find(revision="v2").folder / "2_Dense").exists()
    folder = Path(elsewhere.run(CONVERT.replace("argv[1]", "argv[1], revision='v2'"), "org/tiny").strip())
    assert (folder / "2_Dense" / "model.safetensors").is_file()
    assert (folder / "model.safetensors").read_bytes() == WANTED["model.safetensors"]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_taken_as_it_is(kind: type[str | Path], tmp_path: Path) -> None:
    assert find_checkpoint(kind(tmp_path)) == Checkpoint(tmp_path, str(tmp_path), revision=None)


def test_a_relative_folder_goes_before_a_model_of_that_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("org/tiny").folder == Path("org/tiny")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoint("~/org/tiny").folder == tmp_path / "org" / "tiny"


@pytest.mark.parametrize("model", ["/no/such", "./nothing", "../nothing", "~/nothing", "a/b/c", Path("org/name")])
def test_a_missing_folder_is_not_looked_for_on_the_hub(model: str | Path) -> None:
    with pytest.raises(
        ModelNotFoundError, match=r"Folder .* does not exist\. Name an existing folder, or a Hub id"
    ) as raised:
        find_checkpoint(model)
    assert str(Path(model).expanduser()) in str(raised.value)


def test_a_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelNotFoundError, match=r"model\.safetensors is a file\. Name the folder that holds config"):
        find_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("model", ["a b", "org/", "-x", "org/name..x", "ä/ö", "x" * 97, "org\\name"])
def test_what_is_no_id_is_refused(model: str) -> None:
    with pytest.raises(ModelNotFoundError, match="is neither a folder nor a Hub id such as org/name") as raised:
        find_checkpoint(model)
    assert repr(model) in str(raised.value)


def test_what_is_neither_a_path_nor_a_text_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match="model=None: expected a folder or a Hub id, got NoneType"):
        find_checkpoint(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["", "~no-such-user/x", "x" * 300], ids=["empty", "no user", "too long"])
def test_what_is_no_path_either_is_refused(model: str) -> None:
    with pytest.raises(TriformError):
        find_checkpoint(model)
