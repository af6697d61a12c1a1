"""The event loops that a Postgres storage is used on, and what it holds on each: a pool, and an ear for news."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from agentrt.errors import StorageError
from agentrt.storage._postgres_news import News
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
        _all.add(self)

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

    def forked(self) -> dict[asyncio.AbstractEventLoop, Held]:
        """In the child of a fork: hold nothing, and return what the parent holds."""
        held, self._held = self._held, {}
        return held

    def _open(self, loop: asyncio.AbstractEventLoop) -> Held:
        shared, place, options = self._shared, self._place, self._connect_options
        is_users = self._users_pool is not None and loop is self._users_pool._loop
        if place is None and not is_users:
            raise StorageError(
                "PostgresStorage's pool belongs to another event loop than the one that now uses it (the sync methods "
                "have one of their own). Await the async methods where the pool was made, or give db_url as well"
            )
        dsn = place.dsn if place is not None else None

        async def open_pool() -> Any:
            if is_users:
                return self._users_pool
            return await _driver.create_pool(dsn, reset=_no_reset, **self._pool_options, **options)

        async def connect() -> Any:
            return await _driver.connect(dsn, **options)

        pool = LoopPool(shared, open_pool, closes=not is_users)
        # of the user's pool none is taken to listen: it may have only one, and could not be closed
        news = News(connect if dsn is not None else None)
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


_all: WeakSet[Loops] = WeakSet()
_of_parents: list[Any] = []
"""What a child has inherited: kept for ever, as closing it would close the parent's connections and selectors."""


def _after_fork_in_child() -> None:
    _of_parents.extend(loops.forked() for loops in list(_all))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
