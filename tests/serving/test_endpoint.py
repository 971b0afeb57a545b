"""What holds for every route: ids, keys, limits, errors, slow and departed clients."""

import http.client
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.serving.harness import Running, ServerThread
from triform.serving import protocol
from triform.serving.models import Registry

PATH = "/v1/embeddings"
GOOD = {"model": "minilm", "input": "A cat sat."}


def request(
    url: str, path: str, body: Any = None, *, method: str = "POST", headers: Mapping[str, str] | None = None
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Send a request; return the status, the JSON and the headers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, json.loads(raw) if raw else None, answer.headers


def raw_connection(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


@pytest.fixture(scope="module")
def strict(registry: Registry) -> Iterator[Running]:
    """Return a server with a key and small limits."""
    limits = {"max_body_bytes": 2000, "body_timeout": 0.5, "max_inputs": 4, "max_queued_tokens": 300}
    with ServerThread(lambda: registry, api_key=("secret", "other"), **limits) as running:
        yield running


KEY = {"Authorization": "Bearer secret"}


def test_every_answer_has_an_id_and_counts(server: Running) -> None:
    status, _, headers = request(server.url, PATH, GOOD, headers={"X-Request-Id": "mine-1"})
    assert status == 200
    assert headers["x-request-id"] == "mine-1"
    assert int(headers["x-compute-tokens"]) == 6
    assert {"x-queue-time", "x-tokenization-time", "x-inference-time", "x-total-time"} <= set(headers)
    _, _, headers = request(server.url, PATH, {}, headers={"X-Request-Id": "bad id\t"})
    assert headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize(
    "headers", [KEY, {"Authorization": "secret"}, {"X-Api-Key": "other"}, {"Authorization": "bearer other"}]
)
def test_keys_that_open(strict: Running, headers: Mapping[str, str]) -> None:
    assert request(strict.url, PATH, GOOD, headers=headers)[0] == 200


@pytest.mark.parametrize("path", [PATH, "/embeddings", "/metrics", "/openapi.json", "/nothing", "/v1/nothing"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer secre"}, {"Authorization": "Bearer \xe9"}])
def test_no_route_answers_without_a_key(strict: Running, path: str, headers: Mapping[str, str]) -> None:
    method = "POST" if "embeddings" in path else "GET"
    status, body, answered = request(strict.url, path, GOOD, method=method, headers=headers)
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    assert answered["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("is_open", "status"), [(True, 200), (False, 401)])
def test_metrics_without_a_key(registry: Registry, is_open: bool, status: int) -> None:
    with ServerThread(lambda: registry, api_key=("secret",), open_metrics=is_open) as running:
        parts = urlsplit(running.url)
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == status
        assert request(running.url, PATH, GOOD)[0] == 401


def test_health_needs_no_key(strict: Running) -> None:
    assert request(strict.url, "/health", method="GET")[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "param"),
    [
        (b"", {}, 400, None),
        (b"{", {}, 400, None),
        (b'{"input": "\xff"}', {}, 400, None),
        (b'{"input": NaN}', {}, 400, None),
        (b"[" * 900, {}, 400, None),
        (b'{"input": "x"}', {"Content-Type": "text/plain"}, 415, None),
        ({"input": 3}, {}, 400, "input"),
        ({"input": []}, {}, 400, "input"),
        ({"input": "x", "colour": 1}, {}, 400, "colour"),
        ({"input": ["x", ""]}, {}, 400, "input[1]"),
        ({"input": ["x"] * 5}, {}, 400, "input"),
        ({"input": "x", "dimensions": 10**9}, {}, 400, None),
        ({"input": "x", "encoding_format": "hex"}, {}, 400, "encoding_format"),
        ({"input": "x", "model": "nobody"}, {}, 404, "model"),
        ({"input": "x", "model": "story"}, {}, 400, "model"),
        ({"input": "x" * 3000}, {}, 413, None),
        ({"input": "a b " * 400}, {}, 400, None),
    ],
)
def test_bad_bodies(strict: Running, body: Any, headers: Mapping[str, str], status: int, param: str | None) -> None:
    found, answer, _ = request(strict.url, PATH, body, headers={**KEY, **headers})
    assert found == status, answer
    assert answer["error"]["message"] == answer["message"]
    if param is not None:
        assert answer["error"]["param"] == param
    assert request(strict.url, PATH, GOOD, headers=KEY)[0] == 200


def test_other_methods_and_paths(server: Running) -> None:
    status, _, headers = request(server.url, PATH, method="GET")
    assert (status, headers["Allow"]) == (405, "POST")
    assert request(server.url, "/v1/nothing", {})[0] == 404


def test_a_body_that_comes_too_slowly(strict: Running) -> None:
    with raw_connection(strict.url) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: 50\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_headers_that_come_too_slowly(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    with raw_connection(server.url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        assert connection.recv(1000) == b""
    with raw_connection(server.url) as connection:  # behind an answer as well
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b'{"status":"ok"}' not in answer:
            answer += connection.recv(1000)
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert connection.recv(1000) == b""


def test_headers_that_never_end(server: Running) -> None:
    with raw_connection(server.url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 12_000)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_grows_past_the_limit(strict: Running) -> None:
    with raw_connection(strict.url) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"".join(b"400\r\n" + b"x" * 0x400 + b"\r\n" for _ in range(3)))
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_full_server_refuses_at_once(registry: Registry) -> None:
    texts = ["a cat sat on the mat and looked at the sea " * 10] * 40
    with ServerThread(lambda: registry, max_requests=1) as running, ThreadPoolExecutor(1) as threads:
        long = threads.submit(request, running.url, PATH, {"model": "minilm", "input": texts})
        while "triform_requests_in_flight 1.0" not in http_text(running.url, "/metrics"):
            time.sleep(0.01)
        status, body, headers = request(running.url, PATH, GOOD)
        assert (status, body["error"]["type"]) == (429, "rate_limit_error")
        assert long.result()[0] == 200
        assert int(headers["Retry-After"]) >= 1
        assert request(running.url, PATH, GOOD)[0] == 200


def test_unknown_fields_of_a_lenient_server(registry: Registry) -> None:
    with ServerThread(lambda: registry, lenient=True) as running:
        status, _, headers = request(running.url, PATH, {**GOOD, "colour": 1, "x": None})
        assert status == 200
        assert headers["X-HF-Warning"] == "unknown fields ignored: colour, x"
        assert request(running.url, PATH, {**GOOD, "input": 3, "x": None})[0] == 400


def test_a_client_that_leaves_frees_its_place(registry: Registry) -> None:
    texts = ["a cat sat on the mat and looked at the sea " * 10] * 400
    body = json.dumps({"model": "minilm", "input": texts}).encode()
    with ServerThread(lambda: registry, max_requests=1) as running:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with raw_connection(running.url) as connection:
            connection.sendall(head.encode() + body)
            time.sleep(0.5)
        begin = time.monotonic()
        while request(running.url, PATH, GOOD)[0] != 200:
            assert time.monotonic() - begin < 10
            time.sleep(0.05)
        metrics = http_text(running.url, "/metrics")
        assert re.search(r'triform_cancelled_total\{stage="(reading|queued|running)"\} 1.0', metrics)


@pytest.mark.parametrize("logs_texts", [False, True])
def test_the_log_has_no_texts_unless_asked(
    registry: Registry, caplog: pytest.LogCaptureFixture, logs_texts: bool
) -> None:
    caplog.set_level(logging.INFO, "triform.access")
    with ServerThread(lambda: registry, log_texts=logs_texts) as running:
        request(running.url, PATH, {"model": "minilm", "input": "A secret."}, headers={"X-Request-Id": "mine"})
    [line] = [json.loads(each.message) for each in caplog.records if each.name == "triform.access"]
    assert (line["id"], line["route"], line["status"], line["tokens_in"]) == ("mine", PATH, 200, 5)
    assert ("A secret." in caplog.text) is logs_texts


def http_text(url: str, path: str) -> str:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def test_metrics_count_what_answers_say(registry: Registry) -> None:
    with ServerThread(lambda: registry) as running:
        total = 0
        threads = [threading.Thread(target=request, args=(running.url, PATH, GOOD)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for text in ("One.", "Two of them."):
            _, body, _ = request(running.url, PATH, {"model": "minilm", "input": text})
            total += body["usage"]["total_tokens"]
        metrics = http_text(running.url, "/metrics")
        labels = 'model="minilm",task="sentence-embedding"'
        assert f"triform_input_tokens_total{{{labels}}} {total + 5 * 6}.0" in metrics
        assert (
            f'triform_requests_total{{model="minilm",route="{PATH}",status="200",task="sentence-embedding"}} 7.0'
            in (metrics)
        )
        assert "triform_requests_in_flight 0.0" in metrics
        assert "triform_queued_tokens 0.0" in metrics
