"""Requests to Gemini over the google-genai SDK's client, raw.

The public methods of the SDK have no raw form: each makes pydantic objects of every request and every chunk, and may
send through aiohttp. So its client is asked only for what it is there for, the URL, the headers, the key or token, and
the request goes out by the httpx2 client that it holds. This is the one place that reaches into it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from agentrt import errors
from agentrt.errors import ConfigurationError, ModelError
from agentrt.models._failures import Source
from agentrt.models._http import encodable


class GoogleSource(Source):
    """Who failed; Google's errors have a status in words, and details in a list."""

    def of_status(self, status: int, content: bytes) -> ModelError:
        return self._detailed(super().of_status(status, content))

    def of_body(self, body: Any) -> ModelError:
        return self._detailed(super().of_body(body))

    def _detailed(self, failure: ModelError) -> ModelError:
        body = failure.body
        if isinstance(body, list) and body:
            body = cast("list[Any]", body)[0]
        error: Any = cast("dict[str, Any]", body).get("error") if isinstance(body, dict) else None
        if not isinstance(error, dict):
            return failure
        told = cast("dict[str, Any]", error)
        failure.code = told.get("status") or failure.code
        for detail in told.get("details") or ():
            kind: str = detail.get("@type", "").rpartition(".")[2]
            if kind == "RetryInfo" and failure.retry_after_s is None:
                failure.retry_after_s = _seconds(detail.get("retryDelay"))
            elif kind == "ErrorInfo" and detail.get("reason") == "API_KEY_INVALID":
                return self._again(errors.ModelAuthError, failure)  # it comes with status 400
            elif kind == "QuotaFailure" and _for_the_day(detail):
                return self._again(errors.ModelQuotaExceeded, failure)
        return failure

    def _again(self, kind: type[ModelError], failure: ModelError) -> ModelError:
        return self.make(kind, failure.message, status=failure.status, code=failure.code, body=failure.body)


def _seconds(delay: Any) -> float | None:
    """A protobuf duration: `"34.07s"`."""
    try:
        return float(str(delay).removesuffix("s"))
    except ValueError:
        return None


def _for_the_day(detail: Mapping[str, Any]) -> bool:
    return any("PerDay" in violation.get("quotaId", "") for violation in detail.get("violations") or ())


async def post(
    client: Any,
    method: str,
    model_id: str,
    body: dict[str, Any],
    source: Source,
    *,
    headers: Mapping[str, str] | None,
    query: Mapping[str, Any] | None,
    timeout_s: float | None,
) -> Any:
    """Send a request and return the HTTP response, unread. `client` is a `google.genai.Client`, or its `aio`.

    Raises `ModelError`, also for an answer that is an HTTP error.
    """
    import httpx2

    api = client._api_client
    http = api._async_httpx_client
    if http is None:
        raise ConfigurationError(
            "This google.genai.Client sends client certificates through aiohttp, which agentrt does not use; "
            "give it http_options=HttpOptions(httpx_async_client=httpx2.AsyncClient(…))"
        )
    try:
        content = json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        content = json.dumps(encodable(body), ensure_ascii=False).encode()
    request = api._build_request("post", f"{_resource(api, model_id)}:{method}", {})
    sent = dict(request.headers)
    try:
        if api.vertexai and (api.project or api.location) and not api.api_key:
            sent["Authorization"] = f"Bearer {await api._async_access_token()}"
            if quota := getattr(api._credentials, "quota_project_id", None):
                sent["x-goog-user-project"] = quota
        url = httpx2.URL(api._httpx_url(request.url, is_async=True)).copy_merge_params(dict(query or {}))
        timeout = timeout_s or request.timeout or httpx2.USE_CLIENT_DEFAULT
        raw = http.build_request("POST", url, content=content, headers=sent | dict(headers or {}), timeout=timeout)
        response = await http.send(raw, stream=True)
        if not response.is_success:
            try:
                content = await response.aread()
            finally:
                await response.aclose()
            source.headers = response.headers
            raise source.of_status(response.status_code, content)
    except Exception as error:
        failure = _unauthorized(error, source) or source.of_exception(error)
        if failure is None or failure is error:
            raise
        raise failure from error
    source.headers = response.headers
    return response


def _resource(api: Any, model_id: str) -> str:
    """The model's name as a path."""
    if model_id.startswith(("models/", "tunedModels/", "publishers/", "projects/")):
        return model_id
    if not api.vertexai:
        return f"models/{model_id}"
    publisher, slash, name = model_id.partition("/")
    return f"publishers/{publisher}/models/{name}" if slash else f"publishers/google/models/{model_id}"


def _unauthorized(error: Exception, source: Source) -> ModelError | None:
    """What a failure of google.auth means: by name, as the library need not be loaded."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "GoogleAuthError" not in names:
        return None
    kind = errors.ModelConnectionError if "TransportError" in names else errors.ModelAuthError
    return source.make(kind, f"No access token for Vertex AI: {error}")
