"""One HTTP/1.1 connection, and one request and response on it: asyncio's streams are below, llhttp parses.

A `Connection` lives as long as its socket; an `Exchange` is one request's, so that nothing of a response reaches the
reader of another. Failures are httpx2's exceptions.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, cast

import httptools
import httpx2

MAX_HEAD_BYTES = 128 * 1024
"""A response whose status line and headers are longer is refused."""
MAX_WAITING_BYTES = 256 * 1024
"""No more is read from the socket while this much of a body waits for its reader."""
PATIENCE_S = 0.3
"""How long an address of a server is tried before the next one. The last is waited for."""

_SOCKET_OPTIONS = [
    # without them a firewall forgets a connection on which a model is silent for minutes
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name, None), 60) for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL")),
]
_HEADER = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n"
_HEAD = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.1\r\n(?:%s)*\r\n" % _HEADER)


Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port of a server."""


def encode(request: httpx2.Request, body: bytes) -> bytes:
    """The request as it is sent. Raises `LocalProtocolError` for a header that could be taken for more than it is."""
    headers = request.headers.raw
    lines = [b"%s: %s\r\n" % header for header in headers]
    head = b"".join([b"%s %s HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path), *lines, b"\r\n"])
    # what matches as a whole may still have more lines than there are headers, or a name that ends elsewhere
    if not _HEAD.fullmatch(head) or head.count(b"\n") != len(headers) + 2 or b":" in b"".join([n for n, _ in headers]):
        wrong = [name for (name, _), line in zip(headers, lines, strict=True) if not re.fullmatch(_HEADER, line)]
        where = f"the header {wrong[0].decode('latin-1')!r}" if wrong else "the URL or a header's name"
        raise httpx2.LocalProtocolError(f"A character that HTTP does not allow is in {where}")
    return head + body


async def connected(host: str, port: int) -> socket.socket:
    """A socket that is connected to the first address that answers. Raises `OSError`.

    asyncio's own race between addresses (happy eyeballs) loses sockets when it is cancelled.
    """
    loop = asyncio.get_running_loop()
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failures: list[OSError] = []
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        found = socket.socket(family, kind, protocol)
        try:
            found.setblocking(False)
            async with asyncio.timeout(PATIENCE_S if number < len(addresses) else None):
                await loop.sock_connect(found, address)
            return found
        except OSError as error:
            found.close()
            failures.append(error)
        except BaseException:
            found.close()
            raise
    raise failures[0] if len(failures) == 1 else OSError("; ".join(str(error) or "no answer" for error in failures))


class Connection(asyncio.Protocol):
    """A socket, and what is being asked on it. It is in `among` while it is open."""

    transport: asyncio.Transport

    def __init__(self, origin: Origin, among: set[Connection]) -> None:
        self.origin = origin
        self.loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self.exchange: Exchange | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.sends_slowly = False
        self._among = among

    def is_fresh(self) -> bool:
        """Whether a request may be sent. False when the server closed it, even if the loop does not know that yet."""
        return not (self.transport.is_closing() or _readable(self.transport.get_extra_info("socket").fileno()))

    def close(self) -> None:
        """At once: nothing is waited for, and what was not sent is dropped."""
        self.transport.abort()

    # --- called by the event loop ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._among.add(self)
        for level, option, value in _SOCKET_OPTIONS:
            with suppress(OSError):  # not everywhere
                if option is not None:
                    transport.get_extra_info("socket").setsockopt(level, option, value)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.close()  # nobody asked
        else:
            self.exchange.feed(data)

    def pause_writing(self) -> None:
        self.sends_slowly = True

    def resume_writing(self) -> None:
        self.sends_slowly = False
        if self.exchange is not None:
            self.exchange.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.exchange is not None:
            self.exchange.lost(exc)
        self._among.discard(self)
        self.lost.set_result(None)


class Exchange(httpx2.AsyncByteStream):
    """A request and its response, whose body it streams: all that has come in, in one piece.

    `on_done` is called once, when nothing more is read, with whether the connection can be used again.
    """

    def __init__(
        self, connection: Connection, timeouts: Mapping[str, float | None], on_done: Callable[[Connection, bool], None]
    ) -> None:
        connection.exchange = self
        self.version = ""
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._connection = connection
        self._timeouts = timeouts
        self._on_done: Callable[[Connection, bool], None] | None = on_done
        self._parser: Any = httptools.HttpResponseParser(self)
        # as liberal as other clients with what a server may get wrong
        self._parser.set_dangerous_leniencies(
            lenient_chunked_length=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._head_bytes = 0
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._paused = False
        self._complete = False
        self._reusable = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    # --- what the transport does ----------------------------------------------------------------------------------

    async def send(self, data: bytes) -> httpx2.Response:
        """Send the request; the response, once its head has come."""
        self._connection.transport.write(data)
        while not self.status:
            if self._error is not None:
                raise self._error
            if self._connection.sends_slowly:
                await self._wait("write", httpx2.WriteTimeout)
            else:
                await self._wait("read", httpx2.ReadTimeout)
        extensions = {"http_version": f"HTTP/{self.version}".encode(), "reason_phrase": self.reason}
        return httpx2.Response(self.status, headers=self.headers, stream=self, extensions=extensions)

    def __aiter__(self) -> Exchange:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._complete:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            await self._wait("read", httpx2.ReadTimeout)
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiting_bytes = 0
        if self._paused:
            self._paused = False
            self._connection.transport.resume_reading()
        return data

    async def aclose(self) -> None:
        self.end()

    def end(self) -> None:
        """Nothing more is read. The connection is closed unless all of the body has come."""
        if self._on_done is None:
            return
        done, self._on_done, connection = self._on_done, None, self._connection
        connection.exchange = self._parser = None
        if not self._complete:
            self._fail(httpx2.ReadError("The response was closed before its end"))
        unsent = connection.transport.get_write_buffer_size()
        done(connection, self._complete and self._reusable and not self._paused and not unsent)

    # --- what the connection tells --------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._reusable = False  # it may be only what came after the response that was wrong
            self._fail(httpx2.RemoteProtocolError(f"Not the HTTP that was expected: {error}"))
        else:
            if not self.status:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._fail(httpx2.RemoteProtocolError(f"The headers are longer than {MAX_HEAD_BYTES} bytes"))
            elif self._waiting_bytes > MAX_WAITING_BYTES and not self._paused and not self._complete:
                self._paused = True
                self._connection.transport.pause_reading()
        self.wake()

    def lost(self, error: Exception | None) -> None:
        self._reusable = False
        if error is not None:
            self._fail(httpx2.ReadError(str(error) or type(error).__name__))
        elif not self.status:
            self._fail(httpx2.RemoteProtocolError("Server disconnected without sending a response."))
        elif any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            self._fail(httpx2.RemoteProtocolError("Server disconnected before the end of the response's body."))
        else:
            self._complete = True  # the end of the connection is the end of such a body
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._complete and self._error is None:
            self._error = error
            self._connection.close()
            self.wake()

    async def _wait(self, what: str, error: type[httpx2.TimeoutException]) -> None:
        """Wait for `wake`; raise `error` when that takes too long."""
        loop = self._connection.loop
        self._waiter = waiter = loop.create_future()
        seconds = self._timeouts.get(what)
        timer = None if seconds is None else loop.call_later(seconds, _expire, waiter, error, seconds)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    # --- called by the parser -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a response to no request")

    def on_status(self, reason: bytes) -> None:
        self.reason += reason  # as it comes, in pieces

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # a trailer is not for us
            self.headers.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        status: int = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()  # 100 Continue and the like: the response is still to come
            self.reason = b""
        else:
            self.status = status
            self.version = self._parser.get_http_version()
            self._reusable = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting_bytes += len(piece)

    def on_message_complete(self) -> None:
        self._complete = self.status > 0


def _expire(waiter: asyncio.Future[None], error: type[httpx2.TimeoutException], seconds: float) -> None:
    if not waiter.done():
        waiter.set_exception(error(f"The server was silent for {seconds:g} s"))


def _readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
