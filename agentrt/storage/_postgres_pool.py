"""What a Postgres storage holds on one event loop: a pool, and the calls under way on it.

Each call is a task of its own, so that it is carried out whole also when who awaits it is cancelled; those of one run
start in the order in which they were made. A call whose connection is lost is made again on another one: at once where
nothing was sent or where repeating changes nothing. A transaction whose COMMIT was not answered is first looked up by
its number, in the server's own log of transactions: it is repeated only if it is known not to be committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from agentrt.errors import StorageError
from agentrt.storage._postgres_errors import CONFLICTS, FAILURES, is_lost, translated
from agentrt.utils.log import library_logger

log = library_logger("storage")
T = TypeVar("T")
Connection: TypeAlias = Any
"""An asyncpg connection of a pool. asyncpg has no types."""
Body: TypeAlias = Callable[[Connection], Awaitable[T]]

# a process that is stopped in the middle must not hold its locks
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '30s'"
_CONFLICT_TRIES: Final = 10
_LONGEST_DELAY_S: Final = 0.5
_CLOSE_S: Final = 5.0


class Unknown(Exception):
    """The COMMIT of a transaction was not answered. `result` is what the call returns if it is committed."""

    def __init__(self, number: int, result: Any) -> None:
        super().__init__(number, result)
        self.number = number
        self.result = result


class Transaction:
    """A transaction under way. Its first statement is to set `number`, by `txid_current()`."""

    def __init__(self, connection: Connection) -> None:
        self.fetch: Callable[..., Awaitable[list[Any]]] = connection.fetch
        self.fetchrow: Callable[..., Awaitable[Any]] = connection.fetchrow
        self.number = 0


@dataclass(slots=True, eq=False)
class Shared:
    """What the pools of a storage have in common. `prepare` is called before the first call of any is carried out."""

    where: str
    prepare: Body[None]
    pool_timeout_s: float
    command_timeout_s: float
    reconnect_s: float
    is_prepared: bool = False
    has_connected: bool = False

    def translated(self, error: BaseException) -> StorageError:
        return translated(error, self.where, self.command_timeout_s)


class LoopPool:
    """The pool of one event loop. `open_pool` makes it at first use; it is closed with us if `closes`."""

    def __init__(self, shared: Shared, open_pool: Callable[[], Awaitable[Any]], *, closes: bool) -> None:
        self._shared = shared
        self._open_pool = open_pool
        self._closes = closes
        self._pool: Any = None
        self._opening = asyncio.Lock()
        self._calls = set[asyncio.Task[Any]]()
        self._abandoned = set[asyncio.Task[Any]]()
        self._order: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # --- calls -------------------------------------------------------------------------------------------------------

    async def read(self, body: Body[T], *, run_id: str | None = None) -> T:
        """Carry out one statement that changes nothing, after what was called for the run before."""
        return await self._call(body, run_id, reads=True)

    async def once(self, body: Body[T], *, run_id: str | None = None) -> T:
        """Carry out one statement that may be repeated: it changes the same again, or nothing."""
        return await self._call(body, run_id)

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, run_id: str | None = None) -> T:
        """Carry out `body` in one transaction, once."""

        async def attempt(connection: Connection) -> T:
            await connection.execute(_BEGIN)
            transaction = Transaction(connection)
            result = await body(transaction)
            try:
                await connection.execute("COMMIT")
            except FAILURES as error:
                if not (isinstance(error, TimeoutError) or is_lost(error) or _is_gone(connection)):
                    raise
                if transaction.number:  # else it has changed nothing
                    raise Unknown(transaction.number, result) from error
            return result

        return await self._call(attempt, run_id)

    async def _call(self, attempt: Body[T], run_id: str | None, *, reads: bool = False) -> T:
        earlier = tuple(self._abandoned)
        task = asyncio.get_running_loop().create_task(self._in_turn(attempt, run_id, earlier, reads))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            self._abandoned.add(task)
            task.add_done_callback(self._has_left)
            raise
        return task.result()

    def _has_left(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a call to storage that nobody awaits any more has failed: %s", error)

    async def _in_turn(
        self, attempt: Body[T], run_id: str | None, earlier: tuple[asyncio.Task[Any], ...], reads: bool
    ) -> T:
        if earlier:  # whoever made them goes on, and is to find what it wrote
            await asyncio.wait(earlier)
        if run_id is None:
            return await self._persist(attempt)
        lock = self._order.get(run_id)
        if lock is None:
            lock = self._order[run_id] = asyncio.Lock()
        async with lock:
            if not reads:
                return await self._persist(attempt)
        return await self._persist(attempt)

    # --- again and again ---------------------------------------------------------------------------------------------

    async def _persist(self, attempt: Body[T]) -> T:
        """Try until the attempt succeeds, fails for good, or the database was away for `reconnect_s`."""
        loop, shared = asyncio.get_running_loop(), self._shared
        until, delay_s, conflicts = None, 0.0, 0
        unknown: Unknown | None = None
        while True:
            try:
                return await self._attempt(attempt, unknown)
            except Unknown as error:
                unknown, cause = error, error.__cause__ or error
            except CONFLICTS as error:
                unknown, cause = None, error
                conflicts += 1
                if conflicts > _CONFLICT_TRIES:
                    raise shared.translated(error) from error
            except FAILURES as error:
                is_starting = isinstance(error, asyncpg.CannotConnectNowError)
                if not is_lost(error) or not (shared.has_connected or is_starting):  # a wrong url is told at once
                    raise shared.translated(error) from error
                cause = error
            if until is None:
                until = loop.time() + shared.reconnect_s
            elif loop.time() > until:
                raise self._given_up(cause, unknown) from cause
            await asyncio.sleep(delay_s)
            delay_s = min(_LONGEST_DELAY_S, 2 * delay_s or random.uniform(0.01, 0.05))

    def _given_up(self, cause: BaseException, unknown: Unknown | None) -> StorageError:
        if unknown is None:
            return self._shared.translated(cause)
        return StorageError(
            f"Postgres at {self._shared.where} went away during a COMMIT and did not come back within reconnect_s="
            f"{self._shared.reconnect_s:g}, so whether that was stored is not known. Load the run to see"
        )

    async def _attempt(self, attempt: Body[T], unknown: Unknown | None) -> T:
        connection = await self._acquire()
        pool = self._pool
        try:
            if not self._shared.is_prepared:
                await self._prepare(connection)
            if unknown is not None:
                status = await connection.fetchval("SELECT txid_status($1)", unknown.number)
                if status == "committed":
                    return unknown.result
                if status == "in progress":  # the server has not noticed yet
                    raise unknown
            return await attempt(connection)
        except BaseException as error:
            if isinstance(error, asyncpg.InterfaceError) and _is_gone(connection):
                raise ConnectionError("the connection was closed between two statements") from error
            await _clean_up(connection, error)
            raise
        finally:
            # a connection that can't be given back is closed by the pool; what was done is done
            with contextlib.suppress(*FAILURES):
                await pool.release(connection, timeout=_CLOSE_S)

    async def _prepare(self, connection: Connection) -> None:
        async with self._opening:
            if not self._shared.is_prepared:
                await self._shared.prepare(connection)
                self._shared.is_prepared = True

    async def _acquire(self) -> Connection:
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await self._open_pool()
        pool, shared = self._pool, self._shared
        try:
            connection = await pool.acquire(timeout=shared.pool_timeout_s)
        except TimeoutError as error:
            size, busy = pool.get_max_size(), pool.get_size() - pool.get_idle_size()
            if busy < size:
                raise ConnectionError("an attempt to connect was not answered") from error
            raise StorageError(
                f"Postgres at {shared.where}: no connection was free within pool_timeout_s={shared.pool_timeout_s:g}; "
                f"all of max_pool_size={size} are in use. Raise that, or find what keeps them busy"
            ) from error
        shared.has_connected = True
        return connection

    # --- the end -----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Wait for the calls under way, and close the pool."""
        if self._calls:
            await asyncio.wait(tuple(self._calls), timeout=self._shared.command_timeout_s)
        pool, self._pool = self._pool, None
        if pool is not None and self._closes:
            if pool.get_size() > pool.get_idle_size():  # lost where a call was cancelled as it got it: nobody uses it
                pool.terminate()
                return
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await pool.close()
            except FAILURES:  # the server has gone, or does not answer
                pool.terminate()


async def _clean_up(connection: Connection, error: BaseException) -> None:
    """Leave no transaction open on the connection: roll back, or close it where that can't be waited for."""
    if _is_gone(connection):
        return
    if isinstance(error, asyncio.CancelledError) or is_lost(error):  # only the end of the loop cancels a call
        connection.terminate()
    elif connection.is_in_transaction():
        try:
            await connection.execute("ROLLBACK", timeout=_CLOSE_S)
        except FAILURES:
            if not _is_gone(connection):
                connection.terminate()


def _is_gone(connection: Connection) -> bool:
    """A pool takes a connection that was closed back at once, and it can't even be asked any more."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True
