"""Servers in the test's own loop, for what `tests/http_server.py` is too polite to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

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
            writer.transport.abort()
        else:
            writer.close()

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
        await asyncio.sleep(0)  # aborted sockets are closed a turn of the loop later
