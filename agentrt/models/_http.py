"""Models behind an official SDK: clients, requests, streams and errors, as the adapters share them.

The SDK client carries authentication, base URL, proxies and headers. Its request goes out raw and its response comes
back unread, because the SDKs' own objects cost many times more than all the rest. Nothing is retried here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import Any, ClassVar, Protocol, cast

import jiter

from agentrt.errors import ConfigurationError, ModelError, ModelTimeout, ModelUnavailable
from agentrt.media import Media, MediaLimits
from agentrt.models import _clients
from agentrt.models._content import with_content
from agentrt.models._failures import Source
from agentrt.models._sse import SSEParser
from agentrt.models.base import Model, ModelRequest

DRAIN_S = 1.0
"""How long the end of a body is waited for once its last event was read, so that the connection can be used again."""


class SDKModel(Model):
    """A model that is reached through its provider's Python SDK.

    The HTTP connections are shared by all models of one event loop with the same base URL. `client` is an SDK client
    of the caller's (Azure, Bedrock, Vertex, …), used as it is; `http_client` an `httpx2.AsyncClient` of the caller's.
    Neither is ever closed here.
    """

    base_url: str | None = None
    api_key: str | Callable[[], Awaitable[str]] | None = None
    http_client: Any = None
    client: Any = None
    extra_headers: Mapping[str, str] | None = None
    extra_query: Mapping[str, object] | None = None
    extra_body: Mapping[str, Any] | None = None
    """Put into the request last; a value of None takes that key out."""
    media_limits: MediaLimits = MediaLimits()
    """What may be read of files, and fetched of URLs that the provider does not take."""

    sdk: ClassVar[str] = ""
    """The SDK's name, for `pip install`."""
    environment: ClassVar[tuple[str, ...]] = ()
    """The variables that its client reads; the first is the key's."""

    # --- what a provider's adapter says ---------------------------------------------------------------------------

    def make_sdk_client(self, http_client: Any) -> Any:
        """An SDK client over `http_client`, made of this model's options. Imports the SDK."""
        raise NotImplementedError

    def client_options(self) -> tuple[Hashable, ...]:
        """Everything given to this model that its SDK client depends on."""
        return (self.base_url, self.api_key)

    def takes_url(self, media: Media) -> bool:
        """Whether the medium's URL is sent as it is: its provider fetches it, or refuses such media anyway."""
        return False

    # --- what the adapters use ------------------------------------------------------------------------------------

    def source(self) -> Source:
        """Who the errors of one call are about."""
        return Source(self.provider, self.id)

    async def sdk_client(self) -> Any:
        """The SDK client for the running loop. Raises `ModelUnavailable` without SDK or key."""
        return (await self._sdk_client()).client

    async def _sdk_client(self) -> _clients.SDKClient:
        if (client := self.client) is not None:
            if not iscoroutinefunction(getattr(client, "post", None)):
                name = type(client).__name__
                raise ConfigurationError(f"client= takes an async SDK client (such as Async{name}), not {name}")
            return _clients.SDKClient(client, None, ours=False)
        variables = tuple(os.environ.get(name) for name in self.environment)
        clients = await _clients.loop_clients()
        try:
            http = self.http_client
            if http is None:
                http = clients.http_client((self.sdk, self.base_url), _http_client, self)
            key = (self.sdk, http, *self.client_options(), variables)
            ours = self.http_client is None and not callable(self.api_key)
            return clients.sdk_client(key, http, lambda: self.make_sdk_client(http), ours=ours)
        except ModuleNotFoundError as error:
            if error.name != self.sdk:
                raise
            needs = f"{type(self).__name__} needs the {self.sdk} package: pip install {self.sdk}"
            raise ModelUnavailable(needs) from error
        except Exception as error:
            if not any(kind.__name__ in ("OpenAIError", "AnthropicError") for kind in type(error).__mro__):
                raise
            raise self.no_key(str(error)) from error

    def no_key(self, reason: str) -> ModelUnavailable:
        """The error for a model without credentials."""
        return ModelUnavailable(
            f"{type(self).__name__} has no API key: export {self.environment[0]}=… or give it api_key=… "
            f'(any text, such as "none", for a server that wants no key). The {self.sdk} SDK says: {reason}'
        )

    async def with_content(self, request: ModelRequest, source: Source) -> ModelRequest:
        """The request with the bytes of its media, but for URLs that the provider takes. Raises `ModelError`."""
        messages = await with_content(request.messages, self.takes_url, self.media_limits, source)
        return request if messages is request.messages else replace(request, messages=messages)

    async def post(
        self, path: str, body: dict[str, Any], source: Source, *, stream: bool, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Send a request and return the HTTP response: unread when `stream`, else read. Fills in `source.headers`.

        `extra_headers` win over `headers`. Raises `ModelError`. An unread response must be given to `read_events` or
        `read_whole`.
        """
        from agentrt.models import _sending  # over httpx2, which is slow to import

        sdk = await self._sdk_client()
        for name, value in (self.extra_body or {}).items():
            if value is None:
                body.pop(name, None)
            else:
                body[name] = value
        options: dict[str, Any] = {"max_retries": 0}
        if headers or self.extra_headers:
            options["headers"] = {**(headers or {}), **(self.extra_headers or {})}
        if self.extra_query:
            options["params"] = self.extra_query
        if self.timeout_s is not None:
            options["timeout"] = self.timeout_s
        try:
            response = await _sending.post(sdk, path, body, options, stream=stream)
        except Exception as error:
            failure = source.of_exception(error)
            if failure is None:
                raise
            raise failure from error
        source.headers = response.headers
        return response

    async def aclose(self) -> None:
        await _clients.release(self)


def _http_client() -> Any:
    from agentrt.models._transport import Client  # over httpx2, which is slow to import

    return Client()


def encodable(value: Any) -> Any:
    """JSON without lone halves of surrogate pairs."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {key: encodable(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [encodable(item) for item in cast("list[Any]", value)]
    return value


def is_event_stream(response: Any) -> bool:
    """False when a server answers a request for a stream with one JSON body, or a proxy with a page of HTML."""
    return not response.headers.get("content-type", "").startswith(("application/json", "text/html"))


async def read_whole(response: Any, source: Source) -> bytes:
    """The whole body. Raises `ModelError` if the connection breaks."""
    try:
        return await response.aread()
    except Exception as error:
        failure = source.of_exception(error)
        if failure is None:
            raise
        raise failure from error
    finally:
        await response.aclose()


class EventParser(Protocol):
    """Cuts a body into `(event name, data)` pairs: see `SSEParser`."""

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]: ...

    def flush(self) -> list[tuple[str, bytes]]: ...


async def read_events(
    response: Any, source: Source, parser: EventParser | None = None
) -> AsyncGenerator[list[tuple[str, bytes]], None]:
    """Yield the events of a streamed body, those of each read together; close the response at the end.

    A broken connection raises `ModelStreamInterrupted`, a silent one `ModelTimeout`. Use it in `aclosing(…)`: closing
    it before the end of the body closes the connection. See `drain`.
    """
    parser = parser or SSEParser()
    pieces = response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()
    try:
        try:
            async for piece in pieces:
                if events := parser.feed(piece):
                    yield events
        except Exception as error:
            failure = source.of_exception(error)
            if failure is None:
                raise
            if isinstance(failure, ModelTimeout):
                raise failure from error
            raise source.interrupted(str(error) or type(error).__name__) from error
        if events := [(name, data) for name, data in parser.flush() if _is_complete(data)]:
            yield events
    finally:
        await response.aclose()
        await _unwind(pieces, source)


async def _unwind(pieces: AsyncGenerator[bytes, None], source: Source) -> None:
    """End the iterator of a closed response by reading on, which fails at once.

    Closed from outside it would leave one of httpx's inner generators to the garbage collector, and so to a task.
    """
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in pieces:
                pass
    except Exception as error:
        if source.of_exception(error) is None:
            raise


async def drain(events: AsyncGenerator[Any, None]) -> None:
    """Read on to the end of the body after its last event, so that the connection goes back to the pool."""
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in events:
                pass
    except (TimeoutError, ModelError):
        pass  # the answer is complete, whatever becomes of the connection


def _is_complete(data: bytes) -> bool:
    """Whether the last event's data, which no blank line closed, is more than the beginning of something."""
    if data.startswith(b"[DONE]"):
        return True
    try:
        jiter.from_json(data)
    except ValueError:
        return False
    return True
