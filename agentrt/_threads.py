"""Runs blocking code for event loops: a bounded pool of daemon threads.

    await run_in_thread(func, *args)    on a loop: call `func` in a thread, with this task's context variables
    current_worker()                    in a thread: the worker that runs this code, if it is one
    call_on_loop(func, *args)           in a worker: run a coroutine on the loop that the worker works for

The pool counts slots, not threads. A worker that waits for its loop lends its slot, so that work which needs workers
itself can't deadlock the pool; a worker whose caller has given up keeps none. The threads are daemons: one that is
stuck never holds up the process's exit.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

DEFAULT_SIZE = min(32, (os.cpu_count() or 1) + 28)
CLEANUP_S = 5.0
"""How long a cancelled call on the loop may clean up before its worker's caller goes on without it."""

_local = threading.local()


class Threads:
    """At most `size` jobs at once. Usable from several event loops; threads start when needed and are kept."""

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        if size < 1:
            raise ValueError(f"A pool has at least one thread, not {size}")
        self.size = size
        self._lock = threading.Lock()
        self._ready: SimpleQueue[Worker] = SimpleQueue()
        self._free = size
        self._idle = 0
        self._pending: deque[Worker] = deque()
        self._returning: deque[Worker] = deque()

    async def run(self, func: Callable[..., T], *args: Any, on_abandon: Callable[[], None] | None = None) -> T:
        """Return `func(*args)`, called in a worker thread with a copy of this task's context variables.

        When the waiting task is cancelled, the thread is left to itself: `on_abandon` is called, its late result is
        dropped, its slot is free, and what it runs on the loop is cancelled and has ended before this returns.
        """
        loop = asyncio.get_running_loop()
        worker = Worker(self, loop, func, args)
        self._submit(worker)
        try:
            done, result = await worker.answer
        except asyncio.CancelledError:
            if on_abandon is not None:
                on_abandon()
            await worker.abandon()
            raise
        if done:
            return result
        try:
            raise result
        finally:
            del result, worker  # the traceback holds this frame

    # --- slots ---------------------------------------------------------------------------------------------------

    def _submit(self, worker: Worker) -> None:
        with self._lock:
            if not self._free:
                self._pending.append(worker)
                return
            self._free -= 1
            self._dispatch(worker)

    def _dispatch(self, worker: Worker) -> None:
        """Hand a job that has a slot to a thread. Called with the lock held."""
        worker.has_slot = True
        if self._idle:
            self._idle -= 1
            self._ready.put(worker)
        else:
            threading.Thread(target=self._work, args=(worker,), name="agentrt-tool", daemon=True).start()

    def _next(self) -> Worker | None:
        """Pass a slot on: to a worker that wants its own back, or the next job (returned), or nobody. Lock held."""
        if self._returning:
            returning = self._returning.popleft()
            returning.has_slot = True
            returning.slot_back.set()
            return None
        while self._pending:
            worker = self._pending.popleft()
            if not worker.abandoned:
                return worker
        self._free += 1
        return None

    def release(self, worker: Worker) -> None:
        with self._lock:
            if not worker.has_slot:
                return
            worker.has_slot = False
            following = self._next()
            if following is not None:
                self._dispatch(following)

    def reclaim(self, worker: Worker) -> None:
        with self._lock:
            if worker.abandoned:
                return
            if self._free:
                self._free -= 1
                worker.has_slot = True
                return
            worker.slot_back.clear()
            self._returning.append(worker)
        worker.slot_back.wait()

    def give_up(self, worker: Worker) -> None:
        with self._lock:
            worker.abandoned = True
            if worker in self._returning:
                self._returning.remove(worker)
                worker.slot_back.set()
        self.release(worker)

    # --- the threads ---------------------------------------------------------------------------------------------

    def _work(self, worker: Worker | None) -> None:
        while True:
            if worker is None:
                worker = self._ready.get()
            _local.worker = worker
            outcome = worker.run()
            _local.worker = None
            with self._lock:  # before the answer: whoever gets it finds this thread idle and uses it again
                following = None
                if worker.has_slot:
                    worker.has_slot = False
                    following = self._next()
                stays = following is not None or self._idle < self.size
                if following is not None:
                    following.has_slot = True
                elif stays:
                    self._idle += 1
            worker.deliver(outcome)
            del outcome
            if not stays:  # there are more threads than slots: some had lent theirs
                return
            worker = following


class Worker:
    """One job in a worker thread."""

    def __init__(
        self, pool: Threads, loop: asyncio.AbstractEventLoop, func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.loop = loop
        self.answer: asyncio.Future[tuple[bool, Any]] = loop.create_future()
        self.has_slot = False
        self.abandoned = False
        self.slot_back = threading.Event()
        self._pool = pool
        self._job = (copy_context(), func, args)
        self._call: asyncio.Task[Any] | None = None

    def run(self) -> tuple[bool, Any]:
        context, func, args = self._job
        del self._job
        if self.abandoned:
            return (False, asyncio.CancelledError())
        try:
            return (True, context.run(func, *args))
        except BaseException as error:  # whatever it is, it belongs to the one who asked
            return (False, error)

    def deliver(self, outcome: tuple[bool, Any]) -> None:
        if not self.abandoned:
            try:
                self.loop.call_soon_threadsafe(self._answer, outcome)
            except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
                self.abandoned = True

    def _answer(self, outcome: tuple[bool, Any]) -> None:
        if not self.answer.done():
            self.answer.set_result(outcome)

    def call(self, func: Callable[..., Coroutine[Any, Any, T]], *args: Any, context: Context | None = None) -> T:
        """Run `func(*args)` on the loop and wait for it, without a slot meanwhile. For the worker's own thread.

        The coroutine runs in `context`, or in a copy of this thread's. Raises `CancelledError` when the worker's
        caller has given up.
        """
        future: Future[T] = Future()

        async def carry() -> None:
            try:
                result = await func(*args)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # it is the thread's: SystemExit too must not end the loop
                future.set_exception(error)
            else:
                future.set_result(result)

        def start() -> None:
            if self.abandoned:
                future.cancel()
            else:
                self._call = asyncio.ensure_future(carry())
                # also of a task that was cancelled before its first step; what is done already stays
                self._call.add_done_callback(lambda _: future.cancel())

        self.loop.call_soon_threadsafe(start, context=context)
        self._pool.release(self)
        try:
            return future.result()
        except FutureCancelled:
            raise asyncio.CancelledError from None
        finally:
            self._call = None
            self._pool.reclaim(self)

    async def abandon(self) -> None:
        """Leave the thread to itself, and end what it runs on the loop. For the loop's thread."""
        self._pool.give_up(self)
        call = self._call
        if call is not None and not call.done():
            call.cancel()
            await asyncio.wait([call], timeout=CLEANUP_S)


# --- the pool of this process ----------------------------------------------------------------------------------------

_pool = Threads()


def _after_fork() -> None:
    global _pool
    _pool = Threads()  # the parent's threads are not here
    _local.__dict__.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def run_in_thread(func: Callable[..., T], *args: Any, on_abandon: Callable[[], None] | None = None) -> T:
    """`Threads.run` in the pool that the process shares."""
    return await _pool.run(func, *args, on_abandon=on_abandon)


def current_worker() -> Worker | None:
    """The worker that runs this code; None outside worker threads."""
    return getattr(_local, "worker", None)


def call_on_loop(func: Callable[..., Coroutine[Any, Any, T]], *args: Any, context: Context | None = None) -> T:
    """Run `func(*args)` on the event loop that this worker thread works for; see `Worker.call`."""
    worker = current_worker()
    if worker is None:
        raise RuntimeError("Only a worker thread has a loop to call on")
    return worker.call(func, *args, context=context)
