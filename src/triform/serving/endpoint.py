"""An endpoint: every route goes through the same steps, so that aliases behave alike.

Request id, key, admission, body, the route's handler under a watch on the connection, headers, metrics, log.
"""

import asyncio
import hmac
import json
import logging
import math
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import orjson
from starlette.types import Receive, Scope, Send

from triform.serving import sse
from triform.serving.body import ClientGoneError, decode_body, keys_of, read_body
from triform.serving.call import Call, Handler
from triform.serving.errors import ApiError, Dialect, api_error, unavailable
from triform.serving.state import State

log = logging.getLogger("triform.serving")
access = logging.getLogger("triform.access")

JSON = {"content-type": "application/json"}
MOST_LOGGED_BYTES = 10_000
"""Bytes of a body in the log, if bodies are logged."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is not JSON, or has a status of its own."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer in events. It is returned once the request is valid and admitted, so errors before have a status."""

    events: AsyncIterator[bytes]
    end: bytes = sse.DONE


@dataclass(frozen=True, kw_only=True)
class Form:
    """Another form of a route's body: what two projects ask at the same path, told apart by a key of the body."""

    key: str
    """The key that only bodies of this form have."""
    body: Any
    handler: Handler
    dialect: Dialect


@dataclass(frozen=True, kw_only=True)
class Route:
    """A path, or several with the same meaning, and what answers there."""

    paths: Sequence[str]
    method: str = "POST"
    body: Any = None
    """The type of the JSON body; None for none, `bytes` for a body as it is."""
    handler: Handler
    dialect: Dialect = Dialect.OPENAI
    forms: Sequence[Form] = ()
    """Other forms of the body; one without any of their keys has the route's own."""
    is_open: bool = False
    """Whether no key is needed."""
    is_light: bool = False
    """Whether the server answers even while it is full, loads or drains: the route does no work."""
    summary: str = ""

    def for_body(self, raw: bytes) -> "Route":
        """Return the route for a body: with the form whose key the body has, or else this route."""
        if self.forms and (keys := keys_of(raw)):
            for form in self.forms:
                if form.key in keys:
                    return replace(self, body=form.body, handler=form.handler, dialect=form.dialect, forms=())
        return self


class Endpoint:
    """Answers the requests to a route."""

    def __init__(self, route: Route, state: State) -> None:
        self.route = route
        self._state = state
        self._status = state.status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        call = Call(
            state=self._state,
            id=_request_id(headers),
            owner="",
            headers=headers,
            path={name: str(value) for name, value in scope.get("path_params", {}).items()},
            query=dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)),
            dialect=self.route.dialect,
        )
        self._status.num_open += 1
        self._status.is_idle.clear()
        outcome = 500
        try:
            outcome = await self._answer(call, receive, send)
        except (ClientGoneError, asyncio.CancelledError):
            outcome = 499
            self._state.metrics.cancelled.labels(call.stage).inc()
        except OSError:  # the connection has broken while an answer was sent
            outcome = 499
        finally:
            call.close()
            self._status.num_open -= 1
            if not self._status.num_open:
                self._status.is_idle.set()
            self._record(call, outcome)

    async def _answer(self, call: Call, receive: Receive, send: Send) -> int:
        """Answer a request; return the status."""
        is_admitted = False
        try:
            if not self.route.is_open:
                call.owner = authenticate(call.headers, self._state.settings.api_key)
            if not self.route.is_light:
                if self._status.problem is not None:
                    raise unavailable(self._status.problem)
                self._state.admission.enter()
                is_admitted = True
            try:
                return await self._handle(call, receive, send)
            finally:
                if is_admitted:
                    self._state.admission.leave()
        except (ClientGoneError, OSError):
            raise
        except Exception as given:
            error = api_error(given)
            if error is not given:
                log.exception("request %s has failed", call.id)
            if error.status == 429:
                self._state.metrics.rejected.labels(error.code or "overloaded").inc()
            return await self._send_error(call, error, send)

    async def _handle(self, call: Call, receive: Receive, send: Send) -> int:
        settings = self._state.settings
        body: Any = None
        route = self.route
        if route.method == "POST":
            raw = await read_body(
                receive, dict(call.headers), most=settings.max_body_bytes, seconds=settings.body_timeout
            )
            if settings.log_texts:
                call.logged_body = raw[:MOST_LOGGED_BYTES].decode(errors="replace")
            route = route.for_body(raw)
            call.dialect = route.dialect
            body = raw if route.body is bytes else self._decode(call, raw, route.body)
        work = asyncio.current_task()
        assert work is not None
        watch = asyncio.ensure_future(_wait_for_disconnect(receive))
        watch.add_done_callback(lambda watch: None if watch.cancelled() else work.cancel())
        try:
            return await self._work(call, route.handler, body, send)
        except asyncio.CancelledError:
            if watch.done() and work.uncancel() == 0:
                raise ClientGoneError from None
            raise
        finally:
            watch.cancel()

    def _decode(self, call: Call, raw: bytes, kind: Any) -> Any:
        content_type = call.headers.get("content-type", "")
        settings = self._state.settings
        try:
            return decode_body(raw, kind, content_type)
        except ApiError as error:
            if not settings.lenient or "unknown field" not in error.message:
                raise
        given = msgspec.json.decode(raw)
        known = {name.encode_name for name in msgspec.structs.fields(kind)}
        unknown = sorted(set(given) - known)
        call.warn(f"unknown fields ignored: {', '.join(unknown)}")
        kept = {name: value for name, value in given.items() if name in known}
        return decode_body(msgspec.json.encode(kept), kind, content_type)

    async def _work(self, call: Call, handler: Handler, body: Any, send: Send) -> int:
        try:
            answer = await handler(call, body)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            known = api_error(error)
            if known is not error and known.status >= 500:
                log.exception("request %s has failed", call.id)
            return await self._send_error(call, known, send)
        if isinstance(answer, Stream):
            return await self._send_stream(call, answer, send)
        reply = answer if isinstance(answer, Reply) else Reply(to_json(answer))
        await self._send(call, reply.status, {"content-type": reply.content_type}, reply.body, send)
        return reply.status

    async def _send_error(self, call: Call, error: ApiError, send: Send) -> int:
        status = error.status_in(call.dialect)
        headers = {**JSON, **error.headers}
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        await self._send(call, status, headers, to_json(error.body(call.dialect)), send)
        return status

    async def _send(self, call: Call, status: int, headers: Mapping[str, str], body: bytes, send: Send) -> None:
        await send(_start(call, status, {**headers, "content-length": str(len(body))}))
        await send({"type": "http.response.body", "body": body})

    async def _send_stream(self, call: Call, stream: Stream, send: Send) -> int:
        settings = self._state.settings
        call.stage = "streaming"
        await send(_start(call, 200, sse.HEADERS))

        async def put(data: bytes, *, more: bool) -> None:
            try:
                async with asyncio.timeout(settings.stall_timeout):
                    await send({"type": "http.response.body", "body": data, "more_body": more})
            except TimeoutError as error:
                raise ClientGoneError from error

        try:
            async for data in sse.with_pings(stream.events, settings.ping_interval):
                await put(data, more=True)
        except (ClientGoneError, asyncio.CancelledError):
            raise
        except Exception as error:
            known = api_error(error)
            if known.status >= 500:
                log.exception("request %s has failed while streaming", call.id)
            await put(sse.event(known.body(call.dialect)), more=True)
        await put(stream.end, more=False)
        return 200

    def _record(self, call: Call, status: int) -> None:
        seconds = monotonic() - call.begin
        metrics, route = self._state.metrics, self.route.paths[0]
        if not self.route.is_light:
            metrics.requests.labels(route, call.model_name, call.task_name, str(status)).inc()
            metrics.seconds.labels(route).observe(seconds)
            if call.num_input_tokens:
                metrics.input_tokens.labels(call.model_name, call.task_name).inc(call.num_input_tokens)
                metrics.output_tokens.labels(call.model_name, call.task_name).inc(call.num_output_tokens)
                metrics.cached_tokens.labels(call.model_name).inc(call.num_cached_tokens)
                metrics.truncated_tokens.labels(call.model_name).inc(call.num_truncated_tokens)
                metrics.input_length.labels(call.task_name).observe(call.num_input_tokens)
                metrics.queue_seconds.labels(call.task_name).observe(call.queue_seconds)
        if access.isEnabledFor(logging.INFO) and not self.route.is_light:
            access.info(
                json.dumps(
                    {
                        "id": call.id,
                        "route": route,
                        "model": call.model_name,
                        "task": call.task_name,
                        "status": status,
                        "ms": round(seconds * 1e3, 1),
                        "queue_ms": round(call.queue_seconds * 1e3, 1),
                        "tokens_in": call.num_input_tokens,
                        "tokens_out": call.num_output_tokens,
                        **({} if call.logged_body is None else {"body": call.logged_body}),
                    }
                )
            )


def _start(call: Call, status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    times = {
        "x-compute-tokens": call.num_input_tokens,
        "x-queue-time": round(call.queue_seconds * 1e3),
        "x-tokenization-time": round(call.tokenization_seconds * 1e3),
        "x-inference-time": round(call.inference_seconds * 1e3),
        "x-total-time": round((monotonic() - call.begin) * 1e3),
    }
    every = {**headers, "x-request-id": call.id, **call.response_headers, **{k: str(v) for k, v in times.items()}}
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in every.items()],
    }


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _request_id(headers: Mapping[str, str]) -> str:
    given = headers.get("x-request-id", "")
    return given if re.fullmatch(r"[\w.:-]{1,128}", given, re.ASCII) else f"req-{uuid.uuid4().hex}"


def authenticate(headers: Mapping[str, str], keys: Sequence[str]) -> str:
    """Return the caller's key, or the empty string where the server has no keys.

    A key may stand in `Authorization`, with or without `Bearer`, or in `X-Api-Key`.

    Raises:
        ApiError: 401 without one of the keys.
    """
    if not keys:
        return ""
    given = headers.get("authorization") or headers.get("x-api-key") or ""
    given = re.sub("(?i)^bearer +", "", given.strip())
    # Every key is compared, each in constant time, so that times tell nothing.
    matches = [key for key in keys if hmac.compare_digest(key.encode(), given.encode("latin-1", "replace"))]
    if matches:
        return matches[0]
    what = "is not known" if given else "is missing: send Authorization: Bearer KEY"
    raise ApiError(401, f"The API key {what}.", kind="authentication_error", code="invalid_api_key")


def to_json(value: Any) -> bytes:
    """Write JSON, NumPy arrays included.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has not.
    """
    return orjson.dumps(_finite(value), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _finite(value: Any) -> Any:
    """Check the floats of a nested value; the arrays of models are checked where they are made."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("the answer holds NaN or infinity")
    if isinstance(value, dict):
        for each in value.values():
            _finite(each)
    elif isinstance(value, list | tuple):
        if value and isinstance(value[0], float):
            if not all(map(math.isfinite, value)):
                raise ValueError("the answer holds NaN or infinity")
        else:
            for each in value:
                _finite(each)
    return value
