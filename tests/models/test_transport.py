"""The transport under the clients that agentrt makes, on real sockets: see `agentrt/models/_transport.py`."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest
import trustme

from agentrt import errors
from agentrt.models import _transport
from agentrt.models._transport import Client, Transport
from agentrt.models.base import ModelRequest
from agentrt.models.message import Message
from agentrt.models.openai import OpenAIChat
from tests.http_server import Reply, Server, chat_stream, completion
from tests.models.collect import collect
from tests.models.raw_server import Peer, listening
from tests.models.test_http import open_files

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


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
        with pytest.raises(httpx2.LocalProtocolError, match="does not allow"):
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
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(taken.getsockname()[1], server.port))

        assert (await client.post("http://two.addresses:1/")).status_code == 200


async def test_an_address_that_does_not_answer_is_not_waited_for(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
):
    server.answer = lambda request: Reply(json={})
    with socket.socket() as full, ExitStack() as others:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # what comes after these gets no answer
            others.enter_context(other := socket.socket()).setblocking(False)
            other.connect_ex(full.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(full.getsockname()[1], server.port))

        assert (await client.post("http://two.addresses:1/", timeout=None)).status_code == 200


async def test_the_error_tells_why_each_address_failed(client: Client, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as one, socket.socket() as other:
        ports: list[int] = []
        for taken in (one, other):
            taken.bind(("127.0.0.1", 0))
            ports.append(taken.getsockname()[1])
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(*ports))

        with pytest.raises(httpx2.ConnectError, match=rf"{ports[0]}\).*{ports[1]}\)"):
            await client.post("http://two.addresses:1/")


async def test_a_host_that_is_not_known_is_a_connection_error(client: Client, monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(httpx2.ConnectError, match="not known"):
        await client.post("http://nowhere.example/")


def resolving_to(*ports: int) -> Callable[..., Any]:
    return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]


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


class Silence:
    """Accepts a connection, waits for the first byte, and says nothing."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        self.reached.set()
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
    silence = Silence()
    timeout = httpx2.Timeout(None, **limit)
    async with (
        listening(silence) as url,
        httpx2.AsyncClient(transport=Transport(httpx2.Limits(max_connections=1)), timeout=timeout) as client,
        asyncio.TaskGroup() as others,
    ):
        if "connect" in limit:
            url = url.replace("http", "https")  # a handshake that is not answered
        if "pool" in limit:
            other = others.create_task(client.post(url))
            await silence.reached.wait()
        with pytest.raises(error):
            await client.post(url, content=b"x" * 50_000_000 if "write" in limit else b"")
        if "pool" in limit:
            other.cancel()


async def test_a_body_that_stops_is_a_timeout(server: Server, client: Client):
    server.add(body=[b"a", server.gate()])
    with pytest.raises(httpx2.ReadTimeout):
        await client.post(server.url, timeout=0.1)

    await server.until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("where", ["connecting", "waiting", "reading"])
async def test_a_cancelled_request_leaves_nothing(server: Server, client: Client, where: str):
    gate = server.gate()
    server.add(body=[b"a", gate])
    async with listening(silence := Silence()) as silent:
        before = asyncio.all_tasks()
        url = {"connecting": silent.replace("http", "https"), "waiting": silent, "reading": server.url}[where]
        request = asyncio.create_task(client.post(url))
        if where == "reading":
            await server.until(lambda: gate.reached)
        else:
            await silence.reached.wait()
        request.cancel()
        await asyncio.wait([request])

        assert request.cancelled()
        await no_connections(client)
        assert transport_of(client)._slots._value == _transport.LIMITS.max_connections  # pyright: ignore[reportPrivateUsage]
        assert asyncio.all_tasks() - before <= {task for task in asyncio.all_tasks() if "handle" in repr(task)}
    await server.until(lambda: server.open_connections == 0)


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


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def served_as(authority: trustme.CA) -> Callable[[str], ssl.SSLContext]:
    def context(name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return context

    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    authority.cert_pem.write_to_path(str(path := tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


ServedAs: TypeAlias = "Callable[[str], ssl.SSLContext]"


async def test_a_certificate_of_ssl_cert_file_is_trusted(client: Client, served_as: ServedAs, trusted: Path):
    async with listening(peer := Peer(OK, OK), ssl=served_as("127.0.0.1")) as url:
        assert [(await client.get(url)).content for _ in range(2)] == [b"ok", b"ok"]

    assert peer.connections == 1


@pytest.fixture
def trusted_folder(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("no openssl, which tells the name that a certificate must have in such a folder")
    command = [openssl, "x509", "-noout", "-hash", "-in", str(trusted)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    trusted.rename(trusted.with_name(f"{name}.0"))
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(trusted.parent))


@pytest.mark.usefixtures("trusted_folder")
async def test_a_certificate_of_ssl_cert_dir_is_trusted(client: Client, served_as: ServedAs):
    async with listening(Peer(OK), ssl=served_as("127.0.0.1")) as url:
        assert (await client.get(url)).content == b"ok"


@pytest.mark.parametrize("name", ["127.0.0.1", "other.example"])
async def test_a_certificate_that_is_not_to_be_trusted_is_a_connection_error(
    served_as: ServedAs, trusted: Path, one_certificate: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    if name == "127.0.0.1":
        monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))
    async with listening(peer := Peer(OK), ssl=served_as(name)) as url:
        with pytest.raises(errors.ModelConnectionError, match=rf"certificate verify failed.*\({url}"):
            await collect(OpenAIChat(id="gpt-4.1", api_key="k", base_url=url))

    assert peer.requests == []


async def test_certificates_that_are_not_there_are_a_connection_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")

    with pytest.raises(errors.ModelConnectionError, match="SSL_CERT_FILE"):
        await collect(OpenAIChat(id="gpt-4.1", api_key="k", base_url="https://127.0.0.1:1"))


async def test_a_stream_over_tls_can_be_left_and_cut(client: Client, served_as: ServedAs, trusted: Path):
    endless = CHUNKED + b"3\r\nabc\r\n"
    async with listening(peer := Peer(endless, endless), ssl=served_as("127.0.0.1")) as url:
        async with client.stream("GET", url) as response:
            assert await anext(response.aiter_raw()) == b"abc"
        await no_connections(client)
        async with listening(Peer(endless), ssl=served_as("127.0.0.1")) as cut, client.stream("GET", cut) as response:
            with pytest.raises(httpx2.RemoteProtocolError, match="before the end"):
                await response.aread()

    assert peer.connections == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_large_bodies_go_both_ways_over_tls(
    client: Client, served_as: ServedAs, trusted: Path, version: ssl.TLSVersion
):
    body = bytes(range(256)) * 40_000

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        received = await reader.readexactly(len(body))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + received)
        await writer.drain()
        await reader.read()

    context = served_as("127.0.0.1")
    context.maximum_version = version
    async with listening(echo, ssl=context) as url:
        assert (await client.post(url, content=body)).content == body


async def test_a_server_that_hangs_up_in_the_handshake_is_a_connection_error(client: Client, trusted: Path):
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with listening(hang_up) as url:
        with pytest.raises(httpx2.ConnectError):
            await client.get(url.replace("http", "https"))


async def test_a_server_without_tls_is_a_connection_error(client: Client, trusted: Path):
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(plain) as url:
        with pytest.raises(httpx2.ConnectError, match=r"(?i)ssl"):
            await client.get(url.replace("http", "https"))


def test_loops_in_a_row_leave_nothing_open_over_tls(served_as: ServedAs, trusted: Path):
    async def ask() -> None:
        async with listening(peer := Peer(CHUNKED + b"3\r\nabc\r\n", OK), ssl=served_as("127.0.0.1")) as url:
            model = OpenAIChat(id="gpt-4.1", api_key="k", base_url=url)
            async with aclosing(model.stream(ModelRequest(messages=[Message(role="user", content="hi")]))) as deltas:
                reading = asyncio.create_task(anext(deltas, None))
                while not peer.requests:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait([reading])

    asyncio.run(ask())
    gc.collect()
    before = open_files()
    for _ in range(3):
        asyncio.run(ask())

    gc.collect()  # a ResourceWarning of anything that was left open would come here
    assert open_files() <= before


@pytest.mark.parametrize("tls", [False, True])
async def test_a_request_that_is_cancelled_at_any_moment_leaves_nothing(
    client: Client, served_as: ServedAs, trusted: Path, tls: bool
):
    before = asyncio.all_tasks()
    async with listening(Peer(OK, OK, OK), ssl=served_as("127.0.0.1") if tls else None) as url:
        for turns in range(60):
            request = asyncio.create_task(client.get(url))
            for _ in range(turns):
                await asyncio.sleep(0)
            request.cancel()
            await asyncio.wait([request])
        assert (await client.get(url)).content == b"ok"
    await no_connections(client)

    gc.collect()  # a ResourceWarning of a socket that was left open would come here
    assert transport_of(client)._slots._value == _transport.LIMITS.max_connections  # pyright: ignore[reportPrivateUsage]
    assert asyncio.all_tasks() == before


def test_certificates_are_loaded_once_for_all_loops(monkeypatch: pytest.MonkeyPatch, one_certificate: Path):
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))
    first = _transport.ssl_context()
    assert _transport.ssl_context() is first

    monkeypatch.delenv("SSL_CERT_FILE")
    assert _transport.ssl_context() is not first


# --- proxies and what stands in httpx2's place -----------------------------------------------------------------------


async def test_proxies_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch):
    server.answer = lambda request: Reply(json={})
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with Client() as client:
        await client.post("http://far.example/v1")
        await client.post(f"{server.url}/v2")

    assert [request.path for request in server.requests] == ["http://far.example/v1", "/v2"]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
async def test_a_proxy_for_https_is_asked_to_connect(server: Server, monkeypatch: pytest.MonkeyPatch, name: str):
    server.answer = lambda request: Reply(status=403, json={})
    monkeypatch.setenv(name, server.url)

    with pytest.raises(errors.ModelConnectionError, match="403"):
        await collect(OpenAIChat(id="gpt-4.1", api_key="k", base_url="https://far.example/v1"))

    assert [(request.method, request.path) for request in server.requests] == [("CONNECT", "far.example:443")]


def test_a_socks_proxy_is_left_to_httpx2(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "socksio", None)

    with pytest.raises(ImportError, match=r"httpx\[socks\]"):
        Client()


async def test_requests_can_be_answered_by_respx(httpx2_mock: Any):
    route = httpx2_mock.post("https://api.openai.com/v1/chat/completions").respond(json=completion("mocked"))
    model = OpenAIChat(id="gpt-4.1", api_key="k", base_url="https://api.openai.com/v1")

    for _ in range(2):
        assert (await collect(model, stream=False)).text == "mocked"

    assert len(route.calls) == 2


async def test_a_tracer_around_httpx2s_transport_sees_the_requests(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
):
    server.answer = lambda request: Reply(json={})
    own = httpx2.AsyncHTTPTransport.handle_async_request
    seen: list[str] = []

    async def traced(self: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.path)
        return await own(self, request)

    await client.post(f"{server.url}/before")
    with monkeypatch.context() as patched:
        patched.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", traced)
        await client.post(f"{server.url}/during")
    await client.post(f"{server.url}/after")

    assert seen == ["/during"]
    assert len(server.requests) == 3


async def test_a_body_that_is_streamed_is_left_to_httpx2(server: Server, client: Client):
    async def body() -> AsyncGenerator[bytes, None]:
        yield b"ab"

    async with listening(peer := Peer(OK)) as url:
        await client.post(url, content=body())

    assert b"transfer-encoding: chunked" in peer.requests[0].lower()


# --- loops and processes ---------------------------------------------------------------------------------------------


def test_uvloop(server: Server):
    uvloop = pytest.importorskip("uvloop")
    server.answer = lambda request: Reply(body=chat_stream("a", "b"))
    model = OpenAIChat(id="gpt-4.1", api_key="k", base_url=f"{server.url}/v1")

    async def twice() -> list[str]:
        return [(await collect(model)).text for _ in range(2)]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(twice()) == ["ab", "ab"]
    server.wait_until(lambda: server.open_connections == 0)
    assert server.connections == 1


FORKING = """
import asyncio, os, sys
from agentrt.agent import Agent
from agentrt.models.openai import OpenAIChat

agent = Agent(model=OpenAIChat(id="gpt-4.1", api_key="k", base_url=sys.argv[1]))

async def main():
    await agent.arun("parent")
    if not os.fork():
        status = 1
        try:
            asyncio.run(agent.arun("child"))
            status = 0
        finally:
            os._exit(status)
    assert os.wait()[1] == 0
    await agent.arun("parent")

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_after_a_fork_each_process_has_its_own_connections(server: Server):
    server.answer = lambda request: Reply(json=completion("a"))
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        "ignore:This process:DeprecationWarning",
        "-c",
        FORKING,
        f"{server.url}/v1",
    ]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert [request.json["messages"][-1]["content"] for request in server.requests] == ["parent", "child", "parent"]
    assert [request.connection for request in server.requests] == [1, 2, 1]
