"""The transport under the clients that agentrt makes, on real sockets: see `agentrt/models/_transport.py`."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest
import trustme

from agentrt import errors
from agentrt.models import _transport
from agentrt.models._transport import Client, Transport
from agentrt.models.openai import OpenAIChat
from tests.http_server import Reply, Server, chat_stream, completion
from tests.models.collect import collect

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


Serve: TypeAlias = "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]"


class Peer:
    """Answers each connection's requests with `answers` in turn, byte for byte, and then closes it."""

    def __init__(self, *answers: bytes, bytewise: bool = False) -> None:
        self.answers = answers
        self.bytewise = bytewise
        self.requests: list[bytes] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for answer in self.answers:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0"
            self.requests.append(head + await reader.readexactly(int(length)))
            for piece in [answer[i : i + 1] for i in range(len(answer))] if self.bytewise else [answer]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)


@asynccontextmanager
async def listening(serve: Serve, host: str = "127.0.0.1", **options: Any) -> AsyncGenerator[str, None]:
    handlers: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, host, 0, **options)
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(10):
            yield f"{'https' if options.get('ssl') else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        if handlers:
            await asyncio.wait(handlers)
        await asyncio.sleep(0)


@pytest.fixture
async def client() -> AsyncGenerator[Client, None]:
    async with asyncio.timeout(20), Client() as client:
        yield client


async def no_connections(client: Client) -> None:
    """Wait until the client has closed all its sockets. The tests that use this are bounded by their `client`."""
    while transport_of(client)._open:  # noqa: ASYNC110  pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0)


def transport_of(client: Client) -> Transport:
    transport = client._transport  # pyright: ignore[reportPrivateUsage]
    assert isinstance(transport, Transport)
    return transport


# --- responses -------------------------------------------------------------------------------------------------------

RESPONSES = {
    "length": OK,
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    "empty": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "chunked": CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\ntrailer: x\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nabc",
    "http 1.0": b"HTTP/1.0 200 OK\r\n\r\nabc",
    "told to close": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK,
    "no reason": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
    "odd headers": b"HTTP/1.1 200 OK\r\nEmpty:\r\nA:  b  \r\na: c\r\nu: \xc3\xa9\r\ncontent-length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "bare newlines": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "cut length": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",
    "cut chunk": CHUNKED + b"5\r\nab",
    "cut between chunks": CHUNKED + b"2\r\nab\r\n",
    "cut head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "nothing": b"",
    "no http": b"SSH-2.0-OpenSSH_9.9\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
    "bad chunk": CHUNKED + b"two\r\nok",
    "bad header": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
}


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_is_what_it_is_to_httpx2s_own_transport(name: str, bytewise: bool):
    peer = Peer(RESPONSES[name], bytewise=bytewise)
    found: list[Any] = []
    async with listening(peer) as url:
        for kind in (httpx2.AsyncClient, Client):
            async with kind() as client:
                try:
                    response = await client.post(url, json={"a": "b"})
                except httpx2.HTTPError as error:
                    found.append(type(error))
                else:
                    told = (response.status_code, response.reason_phrase, response.http_version)
                    found.append((*told, response.headers.raw, response.content))

    assert found[0] == found[1]
    assert peer.requests[0] == peer.requests[1]


async def test_a_compressed_body_is_decoded(client: Client):
    body = gzip.compress(b"hello")
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with listening(Peer(head + body)) as url:
        assert (await client.get(url)).content == b"hello"


async def test_a_head_has_no_body_to_wait_for(client: Client):
    async with listening(Peer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")) as url:
        assert (await client.head(url)).headers["content-length"] == "5"


async def test_endless_headers_are_refused(client: Client):
    peer = Peer(b"HTTP/1.1 200 OK\r\n" + b"a: %s\r\n" % (b"b" * 8000) * 100)
    async with listening(peer) as url:
        with pytest.raises(httpx2.RemoteProtocolError, match="headers are longer"):
            await client.get(url)


@pytest.mark.parametrize(
    "header", [("a", "b\r\nc: d"), ("a", "b\nc"), ("a\r\nb", "c"), ("a: b", "c"), ("a", "\0"), ("", "b")]
)
async def test_a_header_that_would_be_more_than_one_is_refused(client: Client, header: tuple[str, str]):
    async with listening(peer := Peer(OK)) as url:
        with pytest.raises(httpx2.LocalProtocolError):
            await client.get(url, headers=[header])

    assert peer.connections == 0


async def test_what_came_together_is_read_together(server: Server, client: Client):
    gate = server.gate()
    server.add(body=[b"a", gate, *[b"b" * 100] * 50])
    async with client.stream("POST", server.url) as response:
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"a"
        gate.open()
        await asyncio.to_thread(server.wait_until, lambda: gate.reached)
        rest = [piece async for piece in pieces]

    assert b"".join(rest) == b"b" * 5000
    assert len(rest) < 50


async def test_a_slow_reader_holds_up_the_server_and_not_the_memory(client: Client):
    size, sent = 64 * 1024 * 1024, 0
    stuck = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 65536)
            sent += 65536
            try:
                async with asyncio.timeout(0.2):
                    await writer.drain()
            except TimeoutError:
                stuck.set()
                await writer.drain()

    async with listening(serve) as url, client.stream("GET", url) as response:
        await stuck.wait()
        held = sent
        received = sum([len(piece) async for piece in response.aiter_raw()])

    assert held < size / 2  # what the sockets hold, and one bounded piece
    assert received == size


# --- connections -----------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again_unless_told_otherwise(client: Client):
    last = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    chunked = CHUNKED + b"2\r\nok\r\n0\r\n\r\n"
    async with listening(peer := Peer(OK, chunked, RESPONSES["no body"], RESPONSES["continue"], last)) as url:
        for _ in range(6):
            await client.get(url)

    assert peer.connections == 2


@pytest.mark.parametrize("rest", [OK, b"garbage"])
async def test_a_connection_with_more_than_was_asked_for_is_not_used_again(client: Client, rest: bytes):
    async with listening(peer := Peer(OK + rest, OK)) as url:
        assert [(await client.get(url)).content for _ in range(2)] == [b"ok", b"ok"]

    assert peer.connections == 2


async def test_a_response_that_was_not_read_to_its_end_closes_its_connection(server: Server, client: Client):
    server.add(body=[b"a", server.gate()])
    async with client.stream("POST", server.url) as response:
        assert await anext(response.aiter_raw()) == b"a"

    await server.until(lambda: server.open_connections == 0)
    assert server.interrupted == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(server: Server, client: Client):
    server.answer = lambda request: Reply(json={})
    await client.post(server.url)
    for connection in list(server._live):  # pyright: ignore[reportPrivateUsage]
        server.loop.call_soon_threadsafe(lambda connection=connection: connection.shut(reset=False))
    server.wait_until(lambda: server.open_connections == 0)  # this loop stands still: it can't have noticed

    assert (await client.post(server.url)).status_code == 200
    assert server.connections == 2


async def test_an_idle_connection_is_closed_after_a_while(server: Server):
    server.answer = lambda request: Reply(json={})
    limits = httpx2.Limits(max_connections=10, keepalive_expiry=0.01)
    async with httpx2.AsyncClient(transport=Transport(limits)) as client:
        for _ in range(2):
            await client.post(server.url)
            await server.until(lambda: server.open_connections == 0)

    assert server.connections == 2


async def test_hundreds_of_responses_stream_at_once(server: Server, client: Client):
    gates = [server.gate() for _ in range(300)]
    for gate in gates:
        server.add(body=[b"a", gate, b"b"])

    async def read() -> bytes:
        async with client.stream("POST", server.url) as response:
            return b"".join([piece async for piece in response.aiter_raw()])

    reading = [asyncio.create_task(read()) for _ in gates]
    await server.until(lambda: all(gate.reached for gate in gates))
    for gate in gates:
        gate.open()

    assert await asyncio.gather(*reading) == [b"ab"] * 300
    assert server.connections == 300


async def test_no_more_connections_are_kept_than_may_be_open(server: Server):
    gates = [server.gate() for _ in range(3)]
    for gate in gates:
        server.add(body=[gate])
    async with httpx2.AsyncClient(transport=Transport(httpx2.Limits(max_connections=2))) as client:
        reading = [asyncio.create_task(client.post(server.url)) for _ in gates]
        await server.until(lambda: sum(gate.reached for gate in gates) == 2)
        assert server.open_connections == 2
        for gate in gates:
            gate.open()
        await asyncio.gather(*reading)

        assert server.connections <= 3
        assert server.open_connections <= 2


async def test_the_next_address_is_tried(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch):
    server.answer = lambda request: Reply(json={})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: refused
        ports = [taken.getsockname()[1], server.port]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

        assert (await client.post("http://two.addresses:1/")).status_code == 200


async def test_ipv6(client: Client):
    try:
        async with listening(Peer(OK), "::1") as url:
            assert (await client.get(url)).content == b"ok"
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


async def test_a_large_body_is_sent_whole(server: Server, client: Client):
    server.add(json={})
    await client.post(server.url, content=bytes(range(256)) * 40_000)

    assert server.requests[0].body == bytes(range(256)) * 40_000


async def test_an_answer_before_the_end_of_the_request_is_read(client: Client):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await reader.read()

    async with listening(serve) as url:
        response = await client.post(url, content=b"x" * 50_000_000)
        assert (response.status_code, response.content) == (413, b"no")
        await no_connections(client)


# --- time limits -----------------------------------------------------------------------------------------------------


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ({"connect": 0.05}, httpx2.ConnectTimeout),
        ({"read": 0.05}, httpx2.ReadTimeout),
        ({"write": 0.05}, httpx2.WriteTimeout),
        ({"pool": 0.05}, httpx2.PoolTimeout),
    ],
)
async def test_each_time_limit_counts(limit: dict[str, float], error: type[Exception]):
    content = b"x" * 50_000_000 if "write" in limit else b""
    timeout = httpx2.Timeout(None, **limit)
    async with (
        listening(silence) as url,
        httpx2.AsyncClient(transport=Transport(httpx2.Limits(max_connections=1)), timeout=timeout) as client,
    ):
        if "connect" in limit:
            url = url.replace("http", "https")  # a handshake that is not answered
        first = asyncio.create_task(client.post(url)) if "pool" in limit else None
        await asyncio.sleep(0)
        with pytest.raises(error):
            await client.post(url, content=content)
        if first is not None:
            first.cancel()
            await asyncio.wait([first])


async def test_a_body_that_stops_is_a_timeout(server: Server, client: Client):
    server.add(body=[b"a", server.gate()])
    with pytest.raises(httpx2.ReadTimeout):
        await client.post(server.url, timeout=0.1)

    await server.until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("where", ["connecting", "waiting", "reading"])
async def test_a_cancelled_request_leaves_nothing(server: Server, where: str):
    gate = server.gate()
    server.add(body=[b"a", gate])
    before = asyncio.all_tasks()
    async with Client() as client, listening(silence) as silent:
        if where == "reading":
            request = asyncio.create_task(client.post(server.url))
            await server.until(lambda: gate.reached)
        else:
            url = silent if where == "waiting" else silent.replace("http", "https")
            request = asyncio.create_task(client.post(url, timeout=None))
            while not transport_of(client)._open and where == "waiting":  # noqa: ASYNC110  pyright: ignore[reportPrivateUsage]
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])

        assert request.cancelled()
        await no_connections(client)
        assert not transport_of(client)._slots.locked()  # pyright: ignore[reportPrivateUsage]
    await server.until(lambda: server.open_connections == 0)
    assert {task for task in asyncio.all_tasks() - before if "silence" not in repr(task)} == set()


async def test_closing_while_another_task_reads_ends_its_wait(server: Server, client: Client):
    gate = server.gate()
    server.add(body=[b"a", gate])
    async with client.stream("POST", server.url) as response:
        pieces = response.aiter_raw()
        await anext(pieces)
        reading = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0)

    with pytest.raises(httpx2.ReadError):
        await reading
