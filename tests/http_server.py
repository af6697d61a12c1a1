"""A scripted HTTP/1.1 server on loopback, in a thread of its own: what a provider may do to us, byte by byte.

    server.add(json={...})                              # one reply; they are given in the order they were added
    server.add(body=sse(chat_chunk({"content": "hi"}), chat_chunk({}, "stop")))
    server.add(Reply(body=[b"data: ...", gate, b"..."], end="reset"))
    server.answer = lambda request: Reply(json={...})   # for what is not in the queue
    await server.until(lambda: server.closed_by_client == 1)

The thread makes it usable from sync tests and from tests that run several event loops.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

WAIT_S = 10.0


class Gate:
    """In a reply's body: holds back what follows until `open()`, which any thread may call. See `Server.gate`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._event = asyncio.Event()
        self.reached = False

    def open(self) -> None:
        self._server.loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        self.reached = True
        self._server.changed()
        await self._event.wait()


Piece: TypeAlias = "bytes | float | Gate"
"""Bytes are written, a number is a pause in seconds, a `Gate` waits for the test."""


@dataclass(kw_only=True)
class Reply:
    """One scripted answer.

    A body of `bytes` is sent with its content-length, a list piece by piece as HTTP chunks, `bytewise` one byte a
    chunk. `end`: "clean" ends the body as HTTP says; "close" closes the connection without the last chunk (with
    `framing="close"` that is the body's proper end); "reset" resets it.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | Sequence[Piece] | None = None
    json: Any = None
    bytewise: bool = False
    framing: Literal["length", "chunked", "close"] | None = None
    end: Literal["clean", "close", "reset"] = "clean"

    def pieces(self) -> Sequence[Piece]:
        body = jsonlib.dumps(self.json).encode() if self.body is None else self.body
        pieces: list[Piece] = [body] if isinstance(body, bytes) else list(body)
        if not self.bytewise:
            return pieces
        return [one for piece in pieces for one in (_bytes_of(piece) if isinstance(piece, bytes) else [piece])]

    def framed(self) -> Literal["length", "chunked", "close"]:
        if self.framing is not None:
            return self.framing
        whole = isinstance(self.body, bytes) or self.body is None
        return "length" if whole and not self.bytewise and self.end == "clean" else "chunked"

    def head(self) -> bytes:
        kind = "application/json" if self.body is None else "text/event-stream"
        headers = {"content-type": kind} | {name.lower(): value for name, value in self.headers.items()}
        if self.framed() == "chunked":
            headers["transfer-encoding"] = "chunked"
        elif self.framed() == "length":
            headers["content-length"] = str(sum(len(piece) for piece in self.pieces() if isinstance(piece, bytes)))
        else:
            headers["connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Scripted\r\n{lines}\r\n".encode("latin-1")


@dataclass(kw_only=True)
class Request:
    """One request as it came. `json` is its decoded body, None when it is not JSON; `time` is `time.monotonic()`."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    json: Any
    time: float
    connection: int


Answer: TypeAlias = "Reply | Callable[[Request], Reply]"


class Server:
    """Use as a context manager, or through the `server` fixture."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.open_connections = 0
        self.connections = 0
        """How many were ever opened."""
        self.closed_by_client = 0
        self.interrupted = 0
        """How many replies the client cut off by closing before their end."""
        self.answer: Callable[[Request], Reply] = self._used_up
        self._queue: deque[Answer] = deque()
        self._condition = threading.Condition()
        self._live: set[_Connection] = set()

    # --- the script ---------------------------------------------------------------------------------------------

    def add(self, answer: Answer | None = None, **reply: Any) -> None:
        """Queue an answer: a `Reply`, a callable from the request to one, or a `Reply`'s fields."""
        self._queue.append(answer if answer is not None else Reply(**reply))

    def gate(self) -> Gate:
        return Gate(self)

    def take(self, request: Request) -> Reply:
        with self._condition:
            self.requests.append(request)
            answer = self._queue.popleft() if self._queue else self.answer
            self._condition.notify_all()
        return answer if isinstance(answer, Reply) else answer(request)

    @staticmethod
    def _used_up(request: Request) -> Reply:
        return Reply(status=400, json={"error": {"message": f"no reply is scripted for {request.path}"}})

    @property
    def bodies(self) -> list[Any]:
        """The decoded JSON bodies of the requests so far."""
        return [request.json for request in self.requests]

    # --- waiting ------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def wait_until(self, predicate: Callable[[], bool]) -> None:
        with self._condition:
            if not self._condition.wait_for(predicate, WAIT_S):
                raise TimeoutError("the server did not come to what was waited for")

    async def until(self, predicate: Callable[[], bool]) -> None:
        await asyncio.to_thread(self.wait_until, predicate)

    # --- running ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Server:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="scripted-server")
        self._thread.start()
        if not ready.wait(WAIT_S):
            raise TimeoutError("the scripted server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)

    async def _serve(self, ready: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        listener = await self.loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=2048)
        self.port: int = listener.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        ready.set()
        await self._stop.wait()
        listener.close()
        for connection in list(self._live):
            connection.shut(reset=False)
        await asyncio.sleep(0)

    def opened(self, connection: _Connection) -> int:
        with self._condition:
            self._live.add(connection)
            self.open_connections += 1
            self.connections += 1
            self._condition.notify_all()
            return self.connections

    def closed(self, connection: _Connection, *, by_client: bool, interrupted: bool) -> None:
        with self._condition:
            self._live.discard(connection)
            self.open_connections -= 1
            self.closed_by_client += by_client
            self.interrupted += by_client and interrupted
            self._condition.notify_all()


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._number = self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        busy = self._task is not None and not self._task.done()
        self._server.closed(self, by_client=not self._closing, interrupted=busy)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def shut(self, *, reset: bool) -> None:
        self._closing = True
        if reset:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()

    def _next(self) -> None:
        if self._task is not None and not self._task.done():
            return
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        body, self._received = rest[:length], rest[length:]
        method, path, _ = first.split(" ")
        try:
            decoded = jsonlib.loads(body) if body else None
        except ValueError:
            decoded = None
        request = Request(
            method=method,
            path=path,
            headers=headers,
            body=body,
            json=decoded,
            time=time.monotonic(),
            connection=self._number,
        )
        self._task = asyncio.ensure_future(self._reply(self._server.take(request)))

    async def _reply(self, reply: Reply) -> None:
        chunked = reply.framed() == "chunked"
        self._transport.write(reply.head())
        for piece in reply.pieces():
            if isinstance(piece, Gate):
                await piece.wait()
            elif isinstance(piece, bytes):
                if piece:
                    self._transport.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            else:
                await asyncio.sleep(piece)
        if reply.end == "reset":
            # what is still in the send buffer would be lost with the reset, so the kernel gets it first
            while self._transport.get_write_buffer_size():  # noqa: ASYNC110
                await asyncio.sleep(0)
            self.shut(reset=True)
        elif reply.end == "close" or reply.framed() == "close":
            self.shut(reset=False)
        else:
            if chunked:
                self._transport.write(b"0\r\n\r\n")
            asyncio.get_running_loop().call_soon(self._next)


def _bytes_of(piece: bytes) -> list[Piece]:
    return [piece[i : i + 1] for i in range(len(piece))]


# --- bodies ----------------------------------------------------------------------------------------------------------


def sse(*objects: Any, done: bool = True) -> bytes:
    """The body of a chat-completions stream: one `data:` event an object, then `[DONE]`."""
    events = [b"data: " + jsonlib.dumps(one, ensure_ascii=False).encode() + b"\n\n" for one in objects]
    return b"".join(events) + (b"data: [DONE]\n\n" if done else b"")


def sse_events(*objects: Mapping[str, Any]) -> bytes:
    """The body of an Anthropic stream: each event is named after its object's `type`."""
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (one["type"].encode(), jsonlib.dumps(one, ensure_ascii=False).encode())
        for one in objects
    )


def chat_chunk(delta: Mapping[str, Any] | None, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a chat-completions stream; `delta=None` leaves `choices` empty (usage, filter results)."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "test-model"} | {
        "choices": choices,
        **fields,
    }


def chat_usage(input_tokens: int = 12, output_tokens: int = 3) -> dict[str, Any]:
    total = input_tokens + output_tokens
    return {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": total}


def chat_stream(*texts: str, finish_reason: str = "stop") -> bytes:
    """A whole streamed answer: a chunk a text, the finish reason, the usage, `[DONE]`."""
    return sse(
        *(chat_chunk({"content": text}) for text in texts),
        chat_chunk({}, finish_reason),
        chat_chunk(None, usage=chat_usage()),
    )


def completion(
    content: str | None = None,
    *,
    tool_calls: Sequence[Mapping[str, Any]] | None = None,
    finish_reason: str | None = None,
    **message: Any,
) -> dict[str, Any]:
    """The body of a plain chat completion. A tool call is `{"id", "name", "arguments"}`."""
    answer: dict[str, Any] = {"role": "assistant", "content": content, **message}
    if tool_calls:
        answer["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {key: call[key] for key in ("name", "arguments")}}
            for call in tool_calls
        ]
    reason = finish_reason or ("tool_calls" if tool_calls else "stop")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "test-model",
        "choices": [{"index": 0, "message": answer, "finish_reason": reason}],
        "usage": chat_usage(),
    }
