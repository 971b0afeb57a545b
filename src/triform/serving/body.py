"""Bodies of requests: read within limits, and decoded into typed fields."""

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from triform.serving.errors import ApiError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Body = TypeVar("Body")

MAX_DEPTH = 100
"""Most levels of lists and objects in a body."""
STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
JSON_TYPES = ("", "application/json", "text/json")


class ClientGoneError(Exception):
    """The client has closed the connection."""


async def read_body(receive: Receive, headers: dict[str, str], *, most: int, seconds: float) -> bytes:
    """Read the body of a request.

    Raises:
        ApiError: the body is larger than `most` bytes, or takes longer than `seconds`.
        ClientGoneError: the client has closed the connection.
    """
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise _too_large(most)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError as error:
        raise ApiError(
            408, f"The body did not arrive within {seconds:g} seconds.", headers={"Connection": "close"}
        ) from error


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"The body is larger than the {most} bytes allowed. Send fewer inputs, or raise --max-body-bytes.",
        headers={"Connection": "close"},
    )


def decode_body(body: bytes, kind: type[Body], content_type: str) -> Body:
    """Decode JSON into a typed object.

    Raises:
        ApiError: not JSON, a wrong type, or an unknown or missing field; `param` names the field.
    """
    if content_type.partition(";")[0].strip().lower() not in JSON_TYPES:
        raise ApiError(
            415, f"Content-Type {content_type!r}: expected application/json: no model here reads other media."
        )
    if not body.strip():
        raise ApiError(400, "The body is empty: expected a JSON object.")
    _check_depth(body)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ApiError(400, f"The body is not JSON: {error}.") from error


def keys_of(body: bytes) -> set[str]:
    """Return the keys of a JSON object, or none for any other body."""
    try:
        return set(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return set()


def _check_depth(body: bytes) -> None:
    """Refuse JSON that is nested so deeply that no reader and no writer of it could be trusted.

    Raises:
        ApiError: more than `MAX_DEPTH` levels.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    brackets = np.frombuffer(STRINGS.sub(b"", body).translate(None, NO_BRACKETS), np.uint8)
    opens = (brackets == ord("[")) | (brackets == ord("{"))
    if len(brackets) and int(np.where(opens, 1, -1).cumsum().max()) > MAX_DEPTH:
        raise ApiError(400, f"The body is nested more than {MAX_DEPTH} levels deep. Send it flatter.")


def invalid(message: str) -> ApiError:
    """Translate a message of msgspec, such as "Expected `int`, got `str` - at `$.n`"."""
    what, _, place = message.partition(" - at ")
    param = re.sub(r"^\$\.?", "", place.strip("`"))
    if found := re.search(r"(?:missing required|unknown) field `(.+)`", what):
        param = f"{param}.{found[1]}" if param else found[1]
    what = what.replace("`", "")
    return ApiError(400, f"{param or 'body'}: {what[:1].lower()}{what[1:]}.", param=param or None)


def check_known(given: MutableMapping[str, Any], known: set[str], place: str) -> None:
    """Refuse unknown names in an object.

    Raises:
        ApiError: naming the first one.
    """
    for name in given:
        if name not in known:
            param = f"{place}.{name}" if place else name
            raise ApiError(400, f"{param}: unknown. Known are {', '.join(sorted(known))}.", param=param)
