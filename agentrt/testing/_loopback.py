"""A scripted HTTP/1.1 server on loopback, on the running event loop, for the checks of models."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

Piece: TypeAlias = "bytes | asyncio.Event | Literal['leave']"
"""Bytes are sent as one HTTP chunk; an event is waited for; "leave" waits for the client to close the connection."""


@dataclass(kw_only=True)
class Reply:
    """One scripted answer. `end` "cut" closes the connection in the middle of the body, "reset" breaks it off."""

    pieces: Sequence[Piece]
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    end: Literal["clean", "cut", "reset"] = "clean"


class Loopback:
    """Gives the queued replies in order: `async with Loopback() as server: server.replies.append(Reply(…))`."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.bodies: list[Any] = []
        """The decoded bodies of the requests so far."""
        self.left = asyncio.Event()
        """Set when a client has closed its connection at a "leave"."""
        self.tasks: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is gone
        finally:
            writer.close()
            self._writers.discard(writer)
            self.tasks.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is not to be used again."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(
            (line.partition(":")[2] for line in head.split("\r\n") if line.startswith("content-length:")), "0"
        )
        self.bodies.append(json.loads(await reader.readexactly(int(length)) or b"null"))
        reply = self.replies.popleft()
        headers = {"content-type": reply.content_type, "transfer-encoding": "chunked"} | reply.headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{lines}\r\n".encode("latin-1"))
        for piece in reply.pieces:
            if isinstance(piece, bytes):
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
            elif isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                await reader.read()
                self.left.set()
                return False
        if reply.end == "clean":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        elif reply.end == "reset":
            writer.transport.abort()
        return reply.end == "clean"
