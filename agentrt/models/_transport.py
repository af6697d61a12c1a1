"""The HTTP clients that agentrt makes: httpx2's, over connections of our own.

httpx2's own transport costs more than all the rest of a call, and several times that when hundreds of responses stream
at once. Whatever this one is not made for goes through httpx2's: proxies, bodies that are streamed, and everything
once a tracer or a test has put itself in the place of httpx2's.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from functools import lru_cache
from types import FunctionType
from typing import Any

import httpx2

from agentrt.models._connection import Connection, Exchange, Origin, connected, encode
from agentrt.models._tls import TLS

TIMEOUT = httpx2.Timeout(600, connect=5)
LIMITS = httpx2.Limits(max_connections=1000, keepalive_expiry=30)
"""The SDKs keep 100 idle connections for 5 s: many a tool takes longer, and 500 runs would open 400 anew each turn."""


class Client(httpx2.AsyncClient):
    """An HTTP client with the SDKs' defaults. Proxies come from the environment, as in any client of httpx2's."""

    def __init__(self) -> None:
        super().__init__(timeout=TIMEOUT, limits=LIMITS, follow_redirects=True)

    def _init_transport(self, *_: Any, **__: Any) -> httpx2.AsyncBaseTransport:
        return Transport(LIMITS)

    def _init_proxy_transport(self, proxy: httpx2.Proxy, *_: Any, **__: Any) -> httpx2.AsyncBaseTransport:
        return httpx2.AsyncHTTPTransport(verify=ssl_context(), limits=LIMITS, proxy=proxy)


def ssl_context() -> ssl.SSLContext:
    """httpx2's default, one for the process: to load the certificates takes longer than many a request."""
    return _ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(1)
def _ssl_context(*_: str | None) -> ssl.SSLContext:
    try:
        context = httpx2.create_ssl_context()
    except OSError as error:
        raise httpx2.ConnectError(f"No certificates in SSL_CERT_FILE or SSL_CERT_DIR: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # then what is to be written never waits for what is read
    return context


class Transport(httpx2.AsyncBaseTransport):
    """Connections of one event loop, kept for the next request to the same server."""

    def __init__(self, limits: httpx2.Limits) -> None:
        self._limits = limits
        self._most = limits.max_connections or sys.maxsize
        self._slots = asyncio.Semaphore(self._most)
        self._open: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._httpx2: httpx2.AsyncHTTPTransport | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if _is_special(request):
            if self._httpx2 is None:
                self._httpx2 = httpx2.AsyncHTTPTransport(verify=ssl_context(), limits=self._limits)
            return await self._httpx2.handle_async_request(request)
        data = encode(request, await request.aread())
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        await self._acquire(timeouts.get("pool"))
        try:
            connection = self._take(request.url) or await self._connect(request.url, timeouts.get("connect"))
        except BaseException:
            self._slots.release()
            raise
        exchange = Exchange(connection, timeouts, self._done)
        try:
            return await exchange.send(data)
        except BaseException:
            exchange.end()
            raise

    async def aclose(self) -> None:
        self._closed = True
        for connection in (found := list(self._open)):
            connection.close()
        if found:
            await asyncio.wait([connection.lost for connection in found])
        if self._httpx2 is not None:
            await self._httpx2.aclose()

    async def _acquire(self, seconds: float | None) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # does not wait
            return
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError:
            message = f"All {self._most} connections were in use for {seconds:g} s"
            raise httpx2.PoolTimeout(message) from None

    def _take(self, url: httpx2.URL) -> Connection | None:
        """An idle connection, the last used first."""
        idle = self._idle.get(_origin(url))
        while idle:
            connection = idle.pop()
            if connection.expiry is not None:
                connection.expiry.cancel()
            if connection.is_fresh():
                return connection
            connection.close()
        return None

    async def _connect(self, url: httpx2.URL, seconds: float | None) -> Connection:
        scheme, host, port = origin = _origin(url)
        connection = Connection(origin, self._open)
        secured = TLS(connection, ssl_context(), host) if scheme == "https" else None
        try:
            async with asyncio.timeout(seconds):
                found = await connected(host, port)
                await connection.loop.create_connection(lambda: secured or connection, sock=found)
                if secured is not None:
                    await secured.begin()
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error) or f"No connection to {host}:{port} in {seconds:g} s") from None
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error
        return connection

    def _done(self, connection: Connection, reusable: bool) -> None:
        """What was asked on the connection is over."""
        self._slots.release()
        if not reusable or self._closed or len(self._open) > self._most:
            connection.close()
            return
        self._idle.setdefault(connection.origin, []).append(connection)
        connection.expiry = connection.loop.call_later(self._limits.keepalive_expiry or 0, self._expire, connection)

    def _expire(self, connection: Connection) -> None:
        self._idle[connection.origin].remove(connection)
        connection.close()


def _origin(url: httpx2.URL) -> Origin:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _is_special(request: httpx2.Request) -> bool:
    """Whether the request is one for httpx2's own transport."""
    return (
        request.url.scheme not in ("http", "https")
        or request.method in ("HEAD", "CONNECT")
        or not isinstance(request.stream, httpx2.ByteStream)
        or _is_replaced(httpx2.AsyncHTTPTransport)
        or _is_replaced(getattr(sys.modules.get("httpcore2"), "AsyncConnectionPool", None))
    )


def _is_replaced(transport: Any) -> bool:
    """Whether somebody else's function is called for the requests of this class."""
    if transport is None:
        return False
    function = transport.handle_async_request
    return type(function) is not FunctionType or function.__code__.co_filename != transport.aclose.__code__.co_filename
