"""HTTP and SDK clients, one set per event loop: made on first use, shared by models alike, closed with their loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

MAX_SDK_CLIENTS = 128
"""SDK clients kept per loop. A program with a key per customer makes many; they are cheap, and hold no connection."""


@dataclass(slots=True, eq=False)
class SDKClient:
    """An SDK client, the HTTP client under it, and the kinds of request that they sent: see `_sending`."""

    client: Any
    http: Any
    ours: bool
    """Made by agentrt alone: nobody else has a hand in what they send."""
    prepared: dict[Hashable, Any] = field(default_factory=dict[Hashable, Any])


@dataclass(slots=True, eq=False)
class HTTPClient:
    """An HTTP client and the models that use it."""

    http: Any
    users: WeakSet[Any] = field(default_factory=WeakSet[Any])


class LoopClients:
    """The clients of one event loop."""

    def __init__(self) -> None:
        self._http_clients: dict[Hashable, HTTPClient] = {}
        self._sdk_clients: dict[Hashable, SDKClient] = {}
        self.keeper: AsyncGenerator[None, None] | None = None

    def http_client(self, key: Hashable, make: Callable[[], Any], user: object) -> Any:
        """The HTTP client for `key`, made if need be; `user` is a model that now uses it."""
        found = self._http_clients.get(key)
        if found is None:
            found = self._http_clients[key] = HTTPClient(make())
        found.users.add(user)
        return found.http

    def sdk_client(self, key: Hashable, http: Any, make: Callable[[], Any], *, ours: bool) -> SDKClient:
        """The SDK client for `key`, made if need be, over the HTTP client `http`."""
        found = self._sdk_clients.pop(key, None)
        if found is None:
            found = SDKClient(make(), http, ours)
            if len(self._sdk_clients) >= MAX_SDK_CLIENTS:
                del self._sdk_clients[next(iter(self._sdk_clients))]
        self._sdk_clients[key] = found  # the newest is last
        return found

    async def release(self, user: object) -> None:
        """`user` is done: close the HTTP clients that nobody else uses."""
        for key, shared in list(self._http_clients.items()):
            if user in shared.users:
                shared.users.discard(user)
                if not shared.users:
                    del self._http_clients[key]
                    await self._close(shared)

    async def close(self) -> None:
        everything = list(self._http_clients.values())
        self._http_clients.clear()
        for shared in everything:
            await self._close(shared)
        self._sdk_clients.clear()

    async def _close(self, shared: HTTPClient) -> None:
        for key, found in list(self._sdk_clients.items()):
            if found.http is shared.http:
                del self._sdk_clients[key]
        await shared.http.aclose()


_of_loop: dict[asyncio.AbstractEventLoop, LoopClients] = {}


async def loop_clients() -> LoopClients:
    """The clients of the running loop."""
    loop = asyncio.get_running_loop()
    found = _of_loop.get(loop)
    if found is None:
        for dead in [other for other in list(_of_loop) if other.is_closed()]:
            _of_loop.pop(dead, None)  # closed without shutdown_asyncgens()
        found = _of_loop[loop] = LoopClients()
        found.keeper = _close_with(loop, found)
        await anext(found.keeper)  # does not suspend: no other task sees a half-made entry
    return found


async def release(user: object) -> None:
    """Close what only `user` uses on the running loop. It may be used again."""
    found = _of_loop.get(asyncio.get_running_loop())
    if found is not None:
        await found.release(user)


async def _close_with(loop: asyncio.AbstractEventLoop, clients: LoopClients) -> AsyncGenerator[None, None]:
    """Stays suspended until `loop.shutdown_asyncgens()` closes it, which `asyncio.run` does at its end."""
    try:
        yield
    finally:
        _of_loop.pop(loop, None)
        await clients.close()
