"""Requests over an SDK client: the first of a kind is built by the SDK, those like it differ in their body only.

The SDKs spend more on options, URL and headers than all the rest of a request costs, to the same result each time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable
from importlib import import_module
from typing import Any

import httpx2

from agentrt.models._clients import SDKClient
from agentrt.models._http import encodable

PLAIN = {"openai.AsyncOpenAI", "anthropic.AsyncAnthropic"}
"""The SDK clients that are known to send the same to one path each time, but for the body and cookies."""
MAX_PREPARED = 32
"""Kinds of request that are kept for a client: by path, timeout and headers, which may be different ones each time."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode  # as both SDKs do


async def post(sdk: SDKClient, path: str, body: dict[str, Any], options: dict[str, Any], *, stream: bool) -> Any:
    """Send a request; the response, unread when `stream`, else read. Raises the SDK's errors."""
    try:
        return await _post(sdk, path, body, options, stream=stream)
    except UnicodeEncodeError:
        # half of a surrogate pair, from a tool or a file name; the whole request must not fail for it
        return await _post(sdk, path, encodable(body), options, stream=stream)


async def _post(sdk: SDKClient, path: str, body: dict[str, Any], options: dict[str, Any], *, stream: bool) -> Any:
    kind: Hashable = None
    if sdk.ours and "params" not in options:
        kind = (path, stream, options.get("timeout"), *options.get("headers", {}).items())
        prepared: Prepared | None = sdk.prepared.get(kind)
        if prepared is not None and prepared.is_usable() and (content := _encoded(body)) is not None:
            return await prepared.send(content, stream=stream)
    response = await sdk.client.post(
        path, body=body, options=options, cast_to=httpx2.Response, stream=stream, stream_cls=object
    )
    if kind is not None and len(sdk.prepared) < MAX_PREPARED and _is_plain(sdk.client) and not response.history:
        sdk.prepared[kind] = Prepared(sdk, response.request)
    return response


def _encoded(body: dict[str, Any]) -> bytes | None:
    try:
        return _encode(body).encode()
    except TypeError:
        return None  # an object in `extra_body` that the SDK may know how to send


def _is_plain(client: Any) -> bool:
    return (
        f"{client.__class__.__module__}.{client.__class__.__qualname__}" in PLAIN
        and client.custom_auth is None  # it would give each request a token
        and hasattr(client, "_make_status_error_from_response")
    )


class Prepared:
    """A request that was sent, without its body."""

    def __init__(self, sdk: SDKClient, request: httpx2.Request) -> None:
        self._client = sdk.client
        self._http: httpx2.AsyncClient = sdk.http
        self._url = request.url
        own = [header for header in request.headers.raw if header[0].lower() not in (b"content-length", b"cookie")]
        self._headers = httpx2.Headers(own)
        self._timeout = request.extensions["timeout"]
        self._sdk = import_module(sdk.client.__class__.__module__)
        self._log = logging.getLogger(self._sdk.__name__)

    def is_usable(self) -> bool:
        """False while the SDK's log of each request is wanted."""
        return not self._log.isEnabledFor(logging.DEBUG)

    async def send(self, content: bytes, *, stream: bool) -> httpx2.Response:
        """Send it with this body, and raise what the SDK would."""
        request = httpx2.Request(
            "POST",
            self._url,
            headers=self._headers,
            cookies=self._http.cookies,
            content=content,
            extensions={"timeout": self._timeout},
        )
        try:
            response = await self._http.send(request, stream=stream)
            if response.is_success:
                return response
            try:
                await response.aread()
            finally:
                await response.aclose()
        except httpx2.TimeoutException as error:
            raise self._sdk.APITimeoutError(request=request) from error
        except httpx2.RequestError as error:
            raise self._sdk.APIConnectionError(request=request) from error
        raise self._client._make_status_error_from_response(response)
