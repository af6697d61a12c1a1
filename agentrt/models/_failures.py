"""What a provider's failure means: HTTP statuses, error bodies and transport exceptions in agentrt's error tree.

The body is believed before the status, because some servers report an error with status 200 or inside a stream.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

import jiter

from agentrt import errors
from agentrt.errors import ModelError

EXCERPT_CHARS = 300

STATUS_OF_CODE: dict[str, int] = {
    "api_error": 500,
    "authentication_error": 401,
    "billing_error": 402,
    "billing_hard_limit_reached": 429,
    "bio_policy": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "data_residency_mismatch": 400,
    "empty_image_file": 400,
    "engine_overloaded": 503,
    "failed_to_download_image": 400,
    "image_content_policy_violation": 400,
    "image_file_not_found": 400,
    "image_file_too_large": 400,
    "image_parse_error": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "insufficient_quota": 429,
    "internal_error": 500,
    "internal_server_error": 500,
    "invalid_api_key": 401,
    "invalid_base64_image": 400,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_image_mode": 400,
    "invalid_image_url": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "misalignment_policy_violation": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_too_large": 413,
    "server_error": 500,
    "server_is_overloaded": 503,
    "service_unavailable": 503,
    "slow_down": 503,
    "timeout_error": 504,
    "tool_use_failed": 400,
    "unsupported_image_media_type": 400,
    "vector_store_timeout": 504,
}
"""The HTTP status that a provider's own word for an error stands for, where the body is all there is."""

QUOTA_CODES = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active"})
FILTER_CODES = frozenset(
    {
        "bio_policy",
        "content_filter",
        "content_policy_violation",
        "image_content_policy_violation",
        "misalignment_policy_violation",
        "responsibleaipolicyviolation",
    }
)
CONTEXT_CODES = frozenset({"context_length_exceeded", "model_context_window_exceeded"})
CONTEXT_PHRASES = (
    "context length",
    "context window",
    "context limit",
    "prompt is too long",
    "input is too long",
    "maximum number of tokens",
    "exceeds the available context",
)
REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid")


class Source:
    """Who failed: what every error of one model call says about itself."""

    __slots__ = ("headers", "model_id", "provider")

    def __init__(self, provider: str, model_id: str, headers: Mapping[str, str] | None = None) -> None:
        self.provider = provider
        self.model_id = model_id
        self.headers: Mapping[str, str] = {} if headers is None else headers

    def of_status(self, status: int, content: bytes) -> ModelError:
        """The error that an HTTP answer of this status and body means."""
        return self._of_body(_decoded(content), status)

    def of_body(self, body: Any) -> ModelError:
        """The error that was found in the body of a 200, or in an event of its stream."""
        return self._of_body(body, None)

    def interrupted(self, cause: str = "") -> ModelError:
        """The answer ended before the provider said that it was complete."""
        text = "The stream ended early, before the provider said that the answer was complete"
        return self.make(errors.ModelStreamInterrupted, f"{text}: {cause}" if cause else text)

    def invalid(self, what: str, content: bytes | str) -> ModelError:
        """The body is not what the protocol says."""
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
        return self.make(errors.ModelResponseInvalid, f"{what}: {_excerpt(text)!r}", body=text)

    def of_exception(self, error: Exception) -> ModelError | None:
        """The error that an exception of an SDK or HTTP client means; None when it is nothing of theirs."""
        if isinstance(error, ModelError):
            return error
        response: Any = getattr(error, "response", None)
        if isinstance(status := getattr(response, "status_code", None), int):
            self.headers = response.headers
            return self.of_status(status, response.content)
        # by name: the classes may be those of httpx2, of httpx, or of an SDK, and none of them need be imported
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"TimeoutException", "APITimeoutError", "TimeoutError"}:
            return self.make(errors.ModelTimeout, f"No answer in time: {_told(error)}")
        if names & {"TransportError", "RequestError", "APIConnectionError", "StreamError", "OSError"}:
            return self.make(errors.ModelConnectionError, f"The connection failed: {_told(error)}")
        return None

    def make(self, kind: type[ModelError], message: str, **facts: Any) -> ModelError:
        facts.setdefault("request_id", request_id(self.headers))
        return kind(message, provider=self.provider, model_id=self.model_id, **facts)

    def _of_body(self, body: Any, status: int | None) -> ModelError:
        error = _error_of(body)
        codes = [str(error[key]) for key in ("code", "type", "status") if error.get(key)]
        if status is None or status < 400:
            status = _status_of(codes)
        message = _message_of(error, body, status)
        kind = _kind_of(status, {code.lower() for code in codes}, message.lower())
        should_retry = self.headers.get("x-should-retry")
        failure = self.make(
            kind,
            message,
            status=status,
            code=codes[0] if codes else None,
            body=body,
            retryable=should_retry == "true" if should_retry in ("true", "false") else None,
            retry_after_s=retry_after_s(self.headers),
        )
        if isinstance(body, Mapping) and failure.request_id is None:
            failure.request_id = cast("Mapping[str, Any]", body).get("request_id")
        if isinstance(failure, errors.ToolUseFailed):
            failure.failed_generation = error.get("failed_generation")
        return failure


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of a request, as its support asks for it."""
    return next((headers[name] for name in REQUEST_ID_HEADERS if name in headers), None)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds that the server asked for: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    milliseconds, value = _number(headers.get("retry-after-ms")), headers.get("retry-after")
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return max(0.0, seconds)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    # the date has had its fraction of a second cut off, so the moment that was meant may be a second later
    return max(0.0, moment.timestamp() + 1 - time.time())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _decoded(content: bytes) -> Any:
    try:
        return jiter.from_json(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def _error_of(body: Any) -> dict[str, Any]:
    """The error object in a body: `{"error": {…}}`, `{"error": "text"}`, `[{"error": {…}}]` or the body itself."""
    if isinstance(body, list) and body:
        body = cast("list[Any]", body)[0]
    if not isinstance(body, dict):
        return {}
    whole = cast("dict[str, Any]", body)
    error: Any = whole.get("error") or whole
    if isinstance(error, dict):
        return cast("dict[str, Any]", error)
    rest = {key: value for key, value in whole.items() if key != "error"}
    return rest if error is True else rest | {"message": str(error)}


def _message_of(error: dict[str, Any], body: Any, status: int | None) -> str:
    for key in ("message", "detail", "msg"):
        if error.get(key):
            value = error[key]
            return value if isinstance(value, str) else _excerpt(str(value))
    text = body if isinstance(body, str) else "" if body is None else str(body)
    return _excerpt(text) or (f"HTTP status {status} without a body" if status else "an error without a message")


def _status_of(codes: list[str]) -> int | None:
    for code in codes:
        if code.isdecimal() and 400 <= int(code) < 600:
            return int(code)
    return next((STATUS_OF_CODE[code.lower()] for code in codes if code.lower() in STATUS_OF_CODE), None)


def _kind_of(status: int | None, codes: set[str], message: str) -> type[ModelError]:
    if codes & QUOTA_CODES or status == 402:
        return errors.ModelQuotaExceeded
    if codes & FILTER_CODES:
        return errors.ContentFiltered
    if codes & CONTEXT_CODES or (status in (400, 413) and any(phrase in message for phrase in CONTEXT_PHRASES)):
        return errors.ContextLengthExceeded
    if "tool_use_failed" in codes:
        return errors.ToolUseFailed
    if status is None or (status >= 500 and status not in (503, 529)):
        return errors.ModelServerError  # an error without any classification is the server's
    return _KIND_OF_STATUS.get(status, errors.ModelBadRequest if status >= 400 else errors.ModelResponseInvalid)


_KIND_OF_STATUS: dict[int, type[ModelError]] = {
    401: errors.ModelAuthError,
    403: errors.ModelAuthError,
    404: errors.ModelNotFound,
    408: errors.ModelTimeout,
    429: errors.ModelRateLimited,
    503: errors.ModelOverloaded,
    529: errors.ModelOverloaded,
}


def _excerpt(text: str) -> str:
    short = " ".join(text.split())
    return short if len(short) <= EXCERPT_CHARS else f"{short[:EXCERPT_CHARS]}…"


def _told(error: Exception) -> str:
    """The innermost reason: an SDK's "Connection error." hides it in `__cause__`."""
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    try:
        where = str(cast("Any", error).request.url)
    except (AttributeError, RuntimeError):  # httpx raises RuntimeError when the error knows of no request
        where = ""
    text = str(reason) or type(reason).__name__
    return f"{text} ({where})" if where else text
