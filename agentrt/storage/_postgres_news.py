"""Waiting for what others store: LISTEN on a connection of its own, polling where that does not work.

Behind a transaction pooler a LISTEN succeeds and nothing ever arrives. So there is none where the server process is
not the one that the connection was made to, and it is believed only once a notice sent over another connection arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

from agentrt.storage._postgres_errors import FAILURES

CHANNEL: Final = "agentrt"
POLL_S: Final = 0.2
_RECHECK_S: Final = 5.0  # also when listening: a notice is a hint, what is stored counts
_PROBE_S: Final = 1.0
_RETRY_S: Final = 5.0


class News:
    """Of one event loop. `connect` opens a connection; without it there is only polling."""

    def __init__(self, connect: Callable[[], Awaitable[Any]] | None) -> None:
        self._connect = connect
        self._connection: Any = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._opening = asyncio.Lock()
        self._try_at = 0.0

    @contextlib.contextmanager
    def of(self, key: str) -> Generator[asyncio.Event]:
        """An event that is set whenever there may be news of this key. The reader clears it."""
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            events = self._waiting[key]
            events.discard(event)
            if not events:
                del self._waiting[key]

    async def listen(self) -> float:
        """Listen, if that is possible. Returns how long to wait before looking without having been told."""
        if self._connect is None:
            return POLL_S
        if self._is_listening:
            return _RECHECK_S
        async with self._opening:
            loop = asyncio.get_running_loop()
            if not self._is_listening and loop.time() >= self._try_at:
                self._try_at = loop.time() + _RETRY_S
                with contextlib.suppress(*FAILURES):  # polling does it as well; whether the server is there shows then
                    await self._open(self._connect)
        return _RECHECK_S if self._is_listening else POLL_S

    @property
    def _is_listening(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def _open(self, connect: Callable[[], Awaitable[Any]]) -> None:
        connection = await connect()
        try:
            if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
                raise TimeoutError
            await connection.add_listener(CHANNEL, self._hear)
            probe = f"probe {secrets.token_hex(8)}"
            with self.of(probe) as heard:
                await _send(connect, probe)
                async with asyncio.timeout(_PROBE_S):
                    await heard.wait()
        except TimeoutError:  # a pooler: it will not be another time
            self._connect = None
            await connection.close(timeout=_PROBE_S)
        except BaseException:
            connection.terminate()
            raise
        else:
            connection.add_termination_listener(self._wake_all)
            self._connection = connection

    def _hear(self, connection: Any, pid: int, channel: str, key: str) -> None:
        for event in self._waiting.get(key, ()):
            event.set()

    def _wake_all(self, connection: Any) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.remove_termination_listener(self._wake_all)
            with contextlib.suppress(*FAILURES):  # it is gone then
                await connection.close(timeout=_PROBE_S)


async def _send(connect: Callable[[], Awaitable[Any]], key: str) -> None:
    connection = await connect()
    try:
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, key)
    finally:
        await connection.close(timeout=_PROBE_S)
