"""Every route, asked with malformed bodies: a 4xx in the form of its clients, soon.

Paths of one meaning behave alike, with and without a key, and health alone is open.
"""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serving.harness import Running, ServerThread
from triform.serving.endpoint import Route
from triform.serving.errors import Dialect
from triform.serving.models import Registry
from triform.serving.routes import ROUTES, health

pytestmark = pytest.mark.slow

SECONDS = 10.0
"""Two on an idle machine, and more beside other tests: a body that costs minutes is found either way."""
JSON = "application/json"
DEEP = b"[" * 100_000 + b"]" * 100_000
PATHS = [(path, route) for route in ROUTES for path in route.paths]
POSTS = [route for route in ROUTES if route.method == "POST"]
FORMS = [(route, None) for route in POSTS] + [(route, form.key) for route in POSTS for form in route.forms]
BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", JSON),
    "white space": (b" \n", JSON),
    "not JSON": (b"{'inputs': 1}", JSON),
    "cut": (b'{"inputs": "x', JSON),
    "deep list": (DEEP, JSON),
    "deep object": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, JSON),
    "a list": (b"[1, 2]", JSON),
    "a text": (b'"inputs"', JSON),
    "null": (b"null", JSON),
    "a number": (b"3", JSON),
    "NaN": (b"NaN", JSON),
    "invalid UTF-8": (b'{"inputs": "\xff\xfe"}', JSON),
    "half a surrogate pair": (b'{"inputs": "\\ud800"}', JSON),
    "no fields": (b"{}", JSON),
    "unknown field": (b'{"colour": "red"}', JSON),
    "another type": (b"{}", "text/plain"),
    "a form": (b"inputs=x", "application/x-www-form-urlencoded"),
    "sound": (b"RIFF\x00\x00", "audio/wav"),
    "nothing said": (b"\x00\x01", ""),
}
WRONG: dict[str, bytes] = {
    "null": b"null",
    "a number": b"3.5",
    "a huge number": b"1" + b"0" * 400,
    "an object": b'{"x": {"y": [1]}}',
    "a mixed list": b'["x", 3, {"y": null}]',
    "a long text": b'"' + b"x" * 20_000 + b'"',
}
PLACES = {"model": "minilm", "task": "text-classification"}


def filled(path: str) -> str:
    for name, value in PLACES.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def check_error(answer: httpx.Response, dialect: Dialect) -> None:
    """Check that an answer refuses the request in the form of a dialect."""
    assert 400 <= answer.status_code < 500, answer.text
    body = answer.json()
    assert answer.headers["content-type"] == JSON
    assert answer.headers["x-request-id"]
    if dialect is Dialect.OPENAI:
        assert set(body["error"]) >= {"message", "type", "param", "code"}
        assert body["message"] == body["error"]["message"] != ""
    else:
        assert body["error"]
        assert body["error_type"] in ("Validation", "Empty", "Backend", "Overloaded", "validation", "overloaded")
        assert body["error_type"][0].isupper() == (dialect is Dialect.EMBEDDINGS)


@pytest.fixture(scope="module")
def locked(registry: Registry) -> Iterator[Running]:
    """Return a server that wants a key."""
    with ServerThread(lambda: registry, api_key=("secret",)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as found:
        yield found


def ask(client: httpx.Client, path: str, body: bytes, kind: str = JSON) -> httpx.Response:
    """Send a body; the answer must come in time and be no error of the server's."""
    begin = time.monotonic()
    answer = client.post(filled(path), content=body, headers={"content-type": kind} if kind else {})
    assert time.monotonic() - begin < SECONDS, (path, body[:80])
    assert answer.status_code < 500, (path, body[:80], answer.text)
    return answer


@pytest.mark.parametrize("route", POSTS, ids=[route.paths[0] for route in POSTS])
def test_a_body_that_is_no_request(client: httpx.Client, route: Route) -> None:
    for name, (body, kind) in BODIES.items():
        answer = ask(client, route.paths[0], body, kind)
        assert (answer.status_code == 415) == (name in ("another type", "a form", "sound")), name
        check_error(answer, route.dialect)
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("route", "key"), FORMS, ids=[" ".join([route.paths[0], *filter(None, [key])]) for route, key in FORMS]
)
def test_a_field_of_another_type(client: httpx.Client, route: Route, key: str | None) -> None:
    """Put wrong values into each field of a body that lacks the others."""
    form = next((form for form in route.forms if form.key == key), None)
    kind, dialect = (form.body, form.dialect) if form else (route.body, route.dialect)
    begin = f'"{key}": null, '.encode() if key else b""
    for field in kind.__struct_fields__:
        for value in WRONG.values():
            name = b'"' + field.encode() + b'": '
            answer = ask(client, route.paths[0], b"{" + (b"" if field == key else begin) + name + value + b"}")
            if answer.status_code != 200 or not value.startswith(b'"'):  # a text may be all that a route needs
                check_error(answer, dialect)
    answer = ask(client, route.paths[0], b"{" + begin + b'"colour": 1}')
    check_error(answer, dialect)
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("route", POSTS, ids=[route.paths[0] for route in POSTS])
def test_paths_of_a_route_refuse_alike(client: httpx.Client, route: Route) -> None:
    for name in ("empty", "not JSON", "deep object", "sound", "unknown field"):
        found = [ask(client, path, *BODIES[name]) for path in route.paths]
        assert len({(answer.status_code, answer.content) for answer in found}) == 1, name


@pytest.mark.parametrize(("path", "route"), PATHS, ids=[f"{route.method} {path}" for path, route in PATHS])
def test_aliases_want_the_key_alike(locked: Running, path: str, route: Route) -> None:
    def send(headers: dict[str, str]) -> httpx.Response:
        content: Any = b"{" if route.method == "POST" else None
        return httpx.request(route.method, locked.url + filled(path), content=content, headers=headers)

    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": "Basic secret"}):
        answer = send(headers)
        if route.is_open:
            assert answer.status_code == 200
            continue
        assert answer.status_code == 401, (path, headers)
        assert answer.headers["www-authenticate"] == "Bearer"
        check_error(answer, route.dialect)
    for headers in ({"authorization": "Bearer secret"}, {"authorization": "secret"}, {"x-api-key": "secret"}):
        assert send(headers).status_code != 401
    assert httpx.request("DELETE", locked.url + filled(path)).status_code == 401


def test_health_alone_is_open() -> None:
    assert {route.handler for route in ROUTES if route.is_open} == {health.health}


def test_another_method_and_another_path(server: Running) -> None:
    for path, route in PATHS:
        answer = httpx.request("DELETE", server.url + filled(path))
        assert answer.status_code == 405, path
        assert route.method in answer.headers["allow"]
    assert httpx.get(f"{server.url}/nothing").status_code == 404
