"""The event loops that a Postgres storage is used on, and what it holds on each: a pool, and an ear for news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from agentrt.errors import StorageError
from agentrt.storage._postgres_news import CHANNEL, News
from agentrt.storage._postgres_pool import LoopPool, Shared
from agentrt.storage._postgres_url import Place

_driver: Final[Any] = asyncpg
_CLOSE_S: Final = 5.0


@dataclass(slots=True, eq=False)
class Held:
    """What is held on one event loop. Closing `keeper` closes it; so does the end of the loop."""

    pool: LoopPool
    news: News
    keeper: AsyncGenerator[None, None]


class Loops:
    """`users_pool` serves the loop that made it, pools made by `place` serve all others."""

    def __init__(
        self,
        shared: Shared,
        *,
        place: Place | None,
        users_pool: Any,
        pool_options: dict[str, Any],
        connect_options: dict[str, Any],
    ) -> None:
        self._shared = shared
        self._place = place
        self._users_pool = users_pool
        self._pool_options = pool_options
        self._connect_options = connect_options
        self._held: dict[asyncio.AbstractEventLoop, Held] = {}

    async def here(self) -> Held:
        """What is held on the running loop, made if need be. Does not suspend: no task sees it half made."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            for dead in [other for other in list(self._held) if other.is_closed()]:
                self._held.pop(dead, None)  # closed without shutdown_asyncgens()
            held = self._held[loop] = self._open(loop)
            await anext(held.keeper)
        return held

    def loop_to_go_to(self) -> asyncio.AbstractEventLoop | None:
        """The running loop of the user's pool, where that alone can serve and this is another loop."""
        if self._users_pool is None or self._place is not None:
            return None
        loop: asyncio.AbstractEventLoop = self._users_pool._loop
        return loop if loop is not asyncio.get_running_loop() and loop.is_running() else None

    async def aclose(self) -> None:
        """Close what is held on the loops that are running; a loop that is not closes its own at its end."""
        current = asyncio.get_running_loop()
        for loop in list(self._held):
            if loop is not current and not loop.is_running():
                continue
            held = self._held.pop(loop, None)
            if held is None:
                continue
            if loop is current:
                await held.keeper.aclose()
            else:
                # a loop that is blocked closes them when it can, one that ends meanwhile does so itself
                closing = asyncio.run_coroutine_threadsafe(_close(held), loop)
                await asyncio.wait((asyncio.wrap_future(closing),), timeout=_CLOSE_S)

    def _open(self, loop: asyncio.AbstractEventLoop) -> Held:
        place, options = self._place, self._connect_options
        if self._users_pool is not None and loop is self._users_pool._loop:
            return self._hold(loop, LoopPool(self._shared, self._get_users_pool, closes=False), None)
        if place is None:
            raise StorageError(
                "PostgresStorage's pool belongs to another event loop than the one that now uses it (the sync methods "
                "have one of their own). Await the async methods where the pool was made, or give db_url as well"
            )

        async def open_pool() -> Any:
            return await _driver.create_pool(place.dsn, reset=_no_reset, **self._pool_options, **options)

        async def connect() -> Any:
            return await _driver.connect(place.dsn, **options)

        return self._hold(loop, LoopPool(self._shared, open_pool, closes=True), connect)

    async def _get_users_pool(self) -> Any:
        return self._users_pool

    def _hold(
        self, loop: asyncio.AbstractEventLoop, pool: LoopPool, connect: Callable[[], Awaitable[Any]] | None
    ) -> Held:
        async def send(key: str) -> None:
            await pool.once(lambda connection: connection.execute("SELECT pg_notify($1, $2)", CHANNEL, key))

        news = News(connect, send)
        return Held(pool, news, self._keep(loop, pool, news))

    async def _keep(self, loop: asyncio.AbstractEventLoop, pool: LoopPool, news: News) -> AsyncGenerator[None, None]:
        """Stays suspended until it is closed: by `aclose`, or by `asyncio.run` at its end (`shutdown_asyncgens`)."""
        try:
            yield
        finally:
            self._held.pop(loop, None)
            await pool.close()
            await news.close()


async def _close(held: Held) -> None:
    await held.keeper.aclose()


async def _no_reset(connection: Any) -> None:
    """A connection leaves nothing behind that would have to be reset, which saves a round trip per call."""
