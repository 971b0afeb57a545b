"""The life of a server: loading, failing to load, signals, exit codes."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.serving.harness import ServerThread
from triform.demo import DEMOS
from triform.serving.models import Registry

COMMAND = [sys.executable, "-m", "triform", "serve"]


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, Any, Any]:
    """Return the status, the JSON and the headers of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=30) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers


def serve(*arguments: str) -> tuple[int, str]:
    """Run a server that cannot start; return the exit code and the messages."""
    done = subprocess.run([*COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


class Process:
    """A server in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([*COMMAND, "--port", "0", *arguments], stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self.url = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.match(r"Triform serves (http\S+)", line):
                self.url = found[1]
                break

    def end(self, *signals: signal.Signals) -> int:
        for each in signals:
            self.process.send_signal(each)
            time.sleep(0.2)
        _, errors = self.process.communicate(timeout=60)
        self.lines.append(errors)
        return self.process.returncode


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process(str(DEMOS["sentiment"].folder))
    yield process
    process.process.kill()
    process.process.communicate()


def test_health_says_that_the_models_are_loading(registry: Registry) -> None:
    may_load = threading.Event()
    url = ""

    def load() -> Registry:
        may_load.wait(30)
        return registry

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    thread = ServerThread(load, port=port)
    url = f"http://127.0.0.1:{port}"

    def ask() -> None:
        for _ in range(300):
            try:
                found.append(get(f"{url}/health"))
                break
            except urllib.error.URLError:
                time.sleep(0.05)
        may_load.set()

    found: list[tuple[int, Any, Any]] = []
    asking = threading.Thread(target=ask)
    asking.start()
    with thread:
        asking.join()
        [(status, body, headers)] = found
        assert (status, body["error"]["type"]) == (503, "unavailable_error")
        assert int(headers["Retry-After"]) >= 1
        assert get(f"{url}/health")[:2] == (200, {"status": "ok"})


def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    code, message = serve("--port", "0", str(tmp_path))
    assert code == 4
    assert "config.json" in message


def test_a_port_in_use_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, message = serve("--port", str(port))
    assert code == 3
    assert f"port={port}: cannot listen there" in message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_a_signal(process: Process, number: signal.Signals) -> None:
    assert get(f"{process.url}/health")[0] == 200
    assert process.end(number) == 0


STREAM = {"model": "story", "prompt": "Once upon a time", "max_tokens": 150, "ignore_eos": True, "stream": True}


def read_stream(url: str, has_begun: threading.Barrier) -> list[bytes]:
    """Return the lines of a stream; wait for all streams after the first line."""
    given = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(STREAM).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(given, timeout=60) as answer:
        lines = [answer.readline()]
        has_begun.wait(30)
        return [*lines, *answer]


def test_a_server_drains() -> None:
    process = Process("story")
    has_begun = threading.Barrier(9)
    with ThreadPoolExecutor(8) as threads:
        streams = [threads.submit(read_stream, process.url, has_begun) for _ in range(8)]
        has_begun.wait(30)
        process.process.send_signal(signal.SIGTERM)
        status = 200
        while status == 200:  # the signal may not have come yet
            status, body, _ = get(f"{process.url}/health")
        assert (status, body["error"]["message"]) == (503, "The server is shutting down.")
        assert get(f"{process.url}/v1/models")[0] == 503
        for stream in streams:
            events = [line for line in stream.result() if line.startswith(b"data: ")]
            assert events[-1] == b"data: [DONE]\n"
            assert json.loads(events[-2][6:])["choices"][0]["finish_reason"] == "length"
            assert len(events) > 20
    assert process.end() == 0


def test_a_second_signal_ends_streams() -> None:
    process = Process("story")
    has_begun = threading.Barrier(2)
    with ThreadPoolExecutor(1) as threads:
        stream = threads.submit(read_stream, process.url, has_begun)
        has_begun.wait(30)
        begin = time.monotonic()
        assert process.end(signal.SIGTERM, signal.SIGTERM) == 0
        assert time.monotonic() - begin < 10
        stream.exception()


def test_the_banner_has_a_request_that_works() -> None:
    process = Process()
    try:
        assert process.process.stderr is not None
        command = next(line for line in process.process.stderr if line.startswith("Try: "))
        done = subprocess.run(command.removeprefix("Try: "), shell=True, check=True, capture_output=True, timeout=30)
        assert b"score" in done.stdout
    finally:
        assert process.end(signal.SIGTERM) == 0


def test_a_config_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "serve.toml"
    config.write_text('models = ["x=sentiment"]\napi_key = ["from-file"]\nmax_inputs = 3\n')
    monkeypatch.setenv("TRIFORM_SERVE_API_KEY", "from-environment")
    process = Process("--config", str(config))
    try:
        assert get(f"{process.url}/openapi.json", {"Authorization": "Bearer from-environment"})[0] == 200
        status, body, headers = get(f"{process.url}/openapi.json", {"Authorization": "Bearer from-file"})
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        assert headers["WWW-Authenticate"] == "Bearer"
    finally:
        assert process.end(signal.SIGTERM) == 0


def test_an_unknown_key_of_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text("prot = 80\n")
    code, message = serve("--config", str(tmp_path / "serve.toml"))
    assert code == 3
    assert "unknown prot" in message
