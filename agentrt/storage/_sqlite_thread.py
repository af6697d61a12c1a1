"""One SQLite connection on one thread of its own, and a queue of jobs for it.

A job is a function of the connection and one whole transaction, so a task that is cancelled while it waits leaves
nothing half done, and it costs one hop to the thread and back. Jobs that write and wait together share a transaction;
if any of them fails they are undone together and each is run again alone.

Before a fork the connection is closed (SQLite's locks don't survive one) and parent and child open anew when they
next need it. The thread is a daemon, ended by `atexit`: later than everything that may still have something to store,
and at a time when no thread can be started any more.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

from agentrt.errors import StorageError

Work: TypeAlias = Callable[[sqlite3.Connection], Any]
T = TypeVar("T")

LOCK_WAIT_S: Final = 1.0
"""How long SQLite itself waits for another process's lock; the rest of the busy timeout is spent in retries."""
_RETRY_S: Final = 0.01
_GROUP: Final = 64  # jobs in one transaction
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@dataclass(slots=True, eq=False)
class Job:
    """`work` in one transaction; what comes of it goes to `future`, on its own event loop."""

    work: Work
    writes: bool
    future: asyncio.Future[Any]


class SqliteThread:
    """Runs jobs in order, until `stop`. `open` makes the connection; `file` is None for a database in memory."""

    def __init__(self, open: Callable[[], sqlite3.Connection], file: str | None, busy_timeout_s: float) -> None:
        self._open = open
        self._file = file
        self._busy_timeout_s = busy_timeout_s
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._ended: list[asyncio.Future[None]] = []
        self._stopped = False
        self._gate = threading.RLock()  # so that nothing is queued behind the end; the collector may come in between
        self._in_use = threading.Lock()  # held while the connection is
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._main, name="agentrt-sqlite", daemon=True)
        _threads.add(self)
        try:
            self._thread.start()
        except RuntimeError as error:
            _threads.discard(self)
            raise StorageError(f"SQLite storage can't be opened while the process ends: {error}") from error

    def put(self, job: Job) -> bool:
        """Queue a job. False when the thread takes none any more."""
        with self._gate:
            if not self._stopped:
                self._queue.put(job)
            return not self._stopped

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def stop(self, ended: asyncio.Future[None] | None = None) -> bool:
        """End the thread, and set `ended`, once it has done what is queued. Does not wait. False if it had to end."""
        with self._gate:
            if self._stopped:
                return False
            self._stopped = True
            if ended is not None:
                self._ended.append(ended)
            self._queue.put(None)
            return True

    def join(self) -> None:
        self._thread.join(self._busy_timeout_s + 5)

    def suspend(self) -> None:
        """Before a fork: wait for what is being done, and close the connection to a file."""
        self._in_use.acquire()
        if self._file is not None:
            self._close()

    def resume(self) -> None:
        self._in_use.release()

    def forked(self) -> None:
        """In the child, where there is no thread: take no more jobs. The locks may be anybody's."""
        self._stopped = True
        self._gate = threading.RLock()

    # --- on the thread -----------------------------------------------------------------------------------------------

    def _main(self) -> None:
        waiting: deque[Job | None] = deque()
        try:
            while self._work(waiting):
                pass
        finally:
            with self._in_use:
                self._close()
            _threads.discard(self)
            for future in self._ended:
                _deliver(future, None)

    def _work(self, waiting: deque[Job | None]) -> bool:
        """Do the next job, and those that may go with it. Keeps none of them, as a job may hold its storage alive."""
        if not waiting:
            waiting.append(self._queue.get())
        while not self._queue.empty():  # nobody else takes from it
            waiting.append(self._queue.get_nowait())
        job = waiting.popleft()
        if job is None:
            return False
        group = [job]
        while job.writes and len(group) < _GROUP and waiting and (other := waiting[0]) and other.writes:
            group.append(other)
            waiting.popleft()
        self._run(group)
        return True

    def _run(self, group: list[Job]) -> None:
        try:
            results = self._transact(group)
        except BaseException as error:  # goes to who waits for it
            if len(group) > 1 and not _is_busy(error):
                for job in group:
                    self._run([job])
            else:
                for job in group:
                    _deliver(job.future, None, self._translated(error))
        else:
            for job, result in zip(group, results, strict=True):
                _deliver(job.future, result)

    def _transact(self, group: list[Job]) -> list[Any]:
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                with self._in_use:
                    return self._attempt(group)
            except sqlite3.OperationalError as error:
                # SQLite itself waits for most locks, but not for all (opening a journal, recovering one)
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(_RETRY_S)

    def _attempt(self, group: list[Job]) -> list[Any]:
        if self._connection is None:
            self._connection = self._open()
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE" if group[0].writes else "BEGIN")
        try:
            results = [job.work(connection) for job in group]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, (sqlite3.Error, OSError, UnicodeEncodeError)):
            return error
        name = self._file or ":memory:"
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what = _EXPLANATIONS.get(code, "can't do this: {error}")
        if code == sqlite3.SQLITE_CANTOPEN and Path(name).is_dir():
            what = "is a folder: name a file in it"
        translated = StorageError(f"SQLite database {name} " + what.format(error=error, timeout=self._busy_timeout_s))
        translated.__cause__ = error
        return translated


class SqliteJobs:
    """Has functions of the connection carried out, each as one transaction, on a thread made when one is needed.

    Dropping it ends the thread, once that has done what is queued.
    """

    def __init__(self, open: Callable[[], sqlite3.Connection], file: str | None, busy_timeout_s: float) -> None:
        self._open = open
        self._file = file
        self._busy_timeout_s = busy_timeout_s
        self._thread: SqliteThread | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def submit(
        self, work: Callable[[sqlite3.Connection], T], *, writes: bool, to: asyncio.Future[T] | None = None
    ) -> asyncio.Future[T]:
        """Have `work` done; what comes of it goes to the future `to`, else to a new one."""
        future = to if to is not None else asyncio.get_running_loop().create_future()
        job = Job(work, writes, future)
        thread = self._thread
        while thread is None or not thread.put(job):
            thread = self._started()
        return future

    async def aclose(self) -> None:
        """Close the connection, once all that was called before is done. A later call opens again."""
        with starting:
            thread, self._thread = self._thread, None
            if self._finalizer is not None:
                self._finalizer.detach()
        if thread is not None:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if thread.stop(ended):
                await ended

    def _started(self) -> SqliteThread:
        with starting:
            thread = self._thread
            if thread is None or thread.is_stopped:
                # it must not hold whoever uses it, whose end is to end it
                self._thread = thread = SqliteThread(self._open, self._file, self._busy_timeout_s)
                self._finalizer = weakref.finalize(self, thread.stop)
                self._finalizer.atexit = False  # the threads' own hook comes later, and waits for them
            return thread


def _deliver(future: asyncio.Future[Any], result: Any, error: BaseException | None = None) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


_EXPLANATIONS: Final = {
    sqlite3.SQLITE_BUSY: "was locked by somebody else for longer than busy_timeout_s={timeout:g}. Raise that, or find "
    "what holds the lock",
    sqlite3.SQLITE_LOCKED: "was locked for longer than busy_timeout_s={timeout:g}. Raise that, or find what holds the "
    "lock",
    sqlite3.SQLITE_FULL: "can't grow: the disk is full. Nothing was written; make room, or choose another db_file",
    sqlite3.SQLITE_READONLY: "can't be written. Give this user the right to write the file and its folder, or choose "
    "another db_file",
    sqlite3.SQLITE_CANTOPEN: "can't be opened. Give this user the right to write the file and its folder, or choose "
    "another db_file",
    sqlite3.SQLITE_NOTADB: "is a file, but not an SQLite database. It was left as it is; choose another db_file",
    sqlite3.SQLITE_CORRUPT: "is damaged ({error}). Restore it from a copy, or choose another db_file",
    sqlite3.SQLITE_IOERR: "can't be read or written ({error}). See whether its disk is full or gone",
}


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BUSY


# --- the process: its end, and forks ---------------------------------------------------------------------------------

starting = threading.Lock()
"""Held while a storage starts its thread."""
_threads: set[SqliteThread] = set()
_suspended: list[SqliteThread] = []


def _stop_all() -> None:
    for thread in (threads := list(_threads)):
        thread.stop()
    for thread in threads:
        thread.join()


def _before_fork() -> None:
    for thread in list(_threads):
        thread.suspend()
        _suspended.append(thread)


def _after_fork_in_parent() -> None:
    while _suspended:
        _suspended.pop().resume()


def _after_fork_in_child() -> None:
    global starting
    starting = threading.Lock()
    for thread in _threads:
        thread.forked()
    _threads.clear()
    _suspended.clear()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
