"""Errors of the server, and their bodies in the dialects of clients."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from triform.errors import ContextLengthError, InputError, ModelError, NonFiniteError, WrongTaskError


class Dialect(StrEnum):
    """The form of an error's body."""

    OPENAI = "openai"
    """OpenAI, Cohere and llama-server: `{"error": {"message", "type", "param", "code"}}`, and `message` at the root."""
    EMBEDDINGS = "text-embeddings-inference"
    """`{"error": text, "error_type": "Validation"}`."""
    HUGGING_FACE = "huggingface"
    """Hugging Face inference and text-generation-inference: `{"error": text, "error_type": "validation"}`."""


class ApiError(Exception):
    """An answer that is an error.

    Arguments:
        status: the HTTP status.
        message: what is wrong, what was expected, what to do.
        kind: OpenAI's `type`.
        code: OpenAI's `code`, or None.
        param: the field of the body that is at fault, such as `input[3]`, or None.
        headers: more headers, such as `Retry-After`.
        extra: more fields of the error object.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self, dialect: Dialect) -> dict[str, Any]:
        """Return the body in a dialect."""
        match dialect:
            case Dialect.OPENAI:
                inner = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
                return {"error": {**inner, **self.extra}, "message": self.message}
            case Dialect.EMBEDDINGS:
                kind = _EMBEDDINGS_TYPES.get(self.status_in(dialect), "Validation")
                return {"error": self.message, "error_type": kind}
            case Dialect.HUGGING_FACE:
                return {"error": self.message, "error_type": _HUGGING_FACE_TYPES.get(self.status, "validation")}

    def status_in(self, dialect: Dialect) -> int:
        """Return the status in a dialect: servers of text-embeddings-inference answer bad values with 422."""
        is_value = self.status == 400 and self.kind == "invalid_request_error"
        if dialect is Dialect.EMBEDDINGS and is_value:
            return {"wrong_task": 424, "empty": 400}.get(self.code or "", 422)
        return 422 if dialect is Dialect.HUGGING_FACE and is_value else self.status


_EMBEDDINGS_TYPES = {400: "Empty", 424: "Backend", 429: "Overloaded", 500: "Backend", 503: "Unhealthy"}
_HUGGING_FACE_TYPES = {429: "overloaded", 500: "generation", 503: "overloaded"}


def overloaded(message: str, seconds: float) -> ApiError:
    """Make the error for a request that is not admitted; the client may try again after some seconds."""
    wait = max(1, round(seconds))
    return ApiError(429, message, kind="rate_limit_error", code="overloaded", headers={"Retry-After": str(wait)})


def unavailable(message: str) -> ApiError:
    """Make the error of a server that is loading or draining."""
    headers = {"Retry-After": "5", "Connection": "close"}
    return ApiError(503, message, kind="unavailable_error", code="unavailable", headers=headers)


def api_error(error: Exception) -> ApiError:
    """Translate an error of Triform. An error that would occur again is marked so that clients do not try again."""
    match error:
        case ApiError():
            return error
        case ContextLengthError():
            limits = {"n_prompt_tokens": error.num_tokens, "n_ctx": error.limit}
            return ApiError(400, str(error), code="context_length_exceeded", param=_param(error), extra=limits)
        case InputError():
            return ApiError(400, str(error), param=_param(error))
        case WrongTaskError():
            return ApiError(400, str(error), code="wrong_task", param="model")
        case NonFiniteError() | ModelError():
            return ApiError(500, str(error), kind="server_error", headers={"x-should-retry": "false"})
        case MemoryError():
            return ApiError(503, "The server has no memory for this request.", kind="unavailable_error")
    return ApiError(
        500,
        f"Unexpected {type(error).__name__}. The server's log has the traceback under this request's id.",
        kind="server_error",
        headers={"x-should-retry": "false"},
    )


def _param(error: Exception) -> str | None:
    """Find the option that an error message begins with."""
    found = re.match(r"([a-z_]+(\[\d+\])?)[=:]", str(error))
    return None if found is None else found[1]
