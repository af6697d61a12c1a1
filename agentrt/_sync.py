"""Runs async code for sync callers: one event loop in one daemon thread, for the whole process.

    call(func, *args)       the sync twin of `await func(*args)`
    iterate(open_stream)    the sync twin of `async for`
    background(work)        nobody waits for it but the end of the process

A sync tool's calls run on the event loop of the run that called the tool, not here. The thread starts on first use. A
forked child starts its own and leaves the old loop alone, whose selector it shares with its parent. At the process's
end, calls and streams of threads that the interpreter waits for come to their end, as does what is to be waited for,
within `FINISH_S`; what still runs then is cancelled.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401  # pyright: ignore[reportUnusedImport]  its exit hook comes after ours
import os
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVar

from agentrt._threads import current_worker
from agentrt.errors import SyncInAsyncError

T = TypeVar("T")

GRACE_S = 5.0
"""How long what was cancelled may clean up before it is left behind."""
FINISH_S = 10.0
"""How long the end of the process waits for what nobody else waits for."""
POLL_S = 0.1


class BatchStream(Protocol[T]):
    """What `iterate` reads: batches until an empty one, then `aclose`."""

    async def next_batch(self) -> list[T]: ...

    async def aclose(self) -> None: ...


def call(func: Callable[..., Coroutine[Any, Any, T]], *args: Any, instead: str = "arun", **kwargs: Any) -> T:
    """Run `func(*args, **kwargs)` to its end and return its result or raise its error.

    It sees the caller's context variables, and what it sets there is set for the caller afterwards. Ctrl-C cancels
    it, waits for its cleanup and is raised. On the portal's own thread this raises `SyncInAsyncError`, which names
    the method `instead`.
    """
    return _home(instead).run(func, *args, **kwargs)


def iterate(open_stream: Callable[[], Coroutine[Any, Any, BatchStream[T]]], *, instead: str = "arun") -> Iterator[T]:
    """Iterate over the items of a stream. `break`, an error, Ctrl-C and garbage collection all close it."""
    return _items(_home(instead), open_stream)


def _items(home: _Home, open_stream: Callable[[], Coroutine[Any, Any, BatchStream[T]]]) -> Iterator[T]:
    with home.streaming():
        stream = home.run(open_stream)
        try:
            while batch := home.run(stream.next_batch):
                yield from batch
        finally:
            home.finish(stream.aclose)


def background(work: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
    """Begin work on the portal's loop that the end of the process waits for. False when the process is at its end."""
    if _has_ended:
        return False
    try:
        return (_current or _make()).background(work)
    except RuntimeError:  # no thread can be started any more
        return False


def wait_for_at_end(task: asyncio.Task[Any]) -> None:
    """Have the end of the process wait for a task, should it run on the portal's loop. Also keeps it alive."""
    _finishing.add(task)
    task.add_done_callback(_finishing.discard)


_finishing: set[asyncio.Task[Any]] = set()


class _Home(Protocol):
    """A loop that coroutines are run on, for a thread that waits for them."""

    def run(self, func: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

    def streaming(self) -> AbstractContextManager[None]: ...

    def finish(self, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close a stream, wherever this is called: the garbage collector may do so in any thread."""
        ...


# --- the loop of a run, for its sync tools ---------------------------------------------------------------------------


class _RunLoop:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, func: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        worker = current_worker()
        if worker is None or worker.loop is not self._loop:
            raise RuntimeError("A stream that was opened in a tool can only be read in that tool")
        before = after = copy_context()

        async def carry() -> T:
            nonlocal after
            try:
                return await func(*args, **kwargs)
            finally:
                after = copy_context()

        try:
            return worker.call(carry)
        finally:
            _bring_back(before, after)

    def streaming(self) -> AbstractContextManager[None]:
        return nullcontext()

    def finish(self, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
        worker = current_worker()
        if worker is not None and worker.loop is self._loop:
            self.run(aclose)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_keep, self._loop, aclose)


# --- the portal ------------------------------------------------------------------------------------------------------


class _Call:
    """One call's way to the loop and back. A lock tells of its end, which costs less than a `Future`."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Any]], context: Context) -> None:
        self._work = work
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._running = threading.Lock()
        self._running.acquire()
        self._result: Any = None
        self._error: BaseException | None = None
        self.done = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._carry(), context=self._context)
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _carry(self) -> None:
        try:
            self._result = await self._work()
        except BaseException as error:  # the caller's, whatever it is: SystemExit must not end the loop
            self._error = error
            del self  # the error's traceback holds this frame: it would hold itself

    def _end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before it had begun
            self._error = asyncio.CancelledError()
        self.done = True
        self._running.release()

    def wait(self, timeout_s: float = -1) -> None:
        """Wait for the end of the call, for so long at the most if it is not negative. Only one thread may wait."""
        if not self.done:
            self._running.acquire(timeout=timeout_s)

    def result(self) -> Any:
        """Of a call that is done."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # as above
        return self._result


class _Portal:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ending = False
        self._callers: list[threading.Thread] = []
        self._streams: list[threading.Thread] = []
        self._last_call = 0.0
        self._thread = threading.Thread(target=self._main, name="agentrt-portal", daemon=True)
        self._thread.start()

    @property
    def here(self) -> bool:
        """Is this the portal's own thread?"""
        return threading.current_thread() is self._thread

    def run(self, func: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        if not self._thread.is_alive():
            raise RuntimeError("The event loop of this stream is gone: the process was forked, or is at its end")
        before = copy_context()
        context = before.copy()
        one = _Call(lambda: func(*args, **kwargs), context)
        cancels = _cancels()
        caller = threading.current_thread()
        self._callers.append(caller)
        try:
            self._loop.call_soon_threadsafe(one.start)
            _wait(one, cancels)
            return one.result()
        except BaseException as error:
            if not one.done:
                self._cancel(one)
            elif self._ending and isinstance(error, asyncio.CancelledError):
                raise SystemExit from None  # ends a thread without a word, which is what the process's end is to it
            raise
        finally:
            self._last_call = time.monotonic()
            self._callers.remove(caller)
            _bring_back(before, context)
            del one  # an error's traceback holds this frame, and the call the error

    def _cancel(self, one: _Call) -> None:
        self._loop.call_soon_threadsafe(one.cancel)
        one.wait(GRACE_S)

    @contextmanager
    def streaming(self) -> Generator[None, None, None]:
        caller = threading.current_thread()
        self._streams.append(caller)
        try:
            yield
        finally:
            self._streams.remove(caller)

    def finish(self, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.here:
            self._loop.call_soon_threadsafe(_keep, self._loop, aclose)
        elif self._thread.is_alive():  # else it went with its loop
            self.run(aclose)

    def background(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
        if self._ending or not self._thread.is_alive():
            return False
        self._loop.call_soon_threadsafe(lambda: wait_for_at_end(self._loop.create_task(work(), context=Context())))
        return True

    # --- its thread ---------------------------------------------------------------------------------------------

    def _main(self) -> None:
        while not self._ending:
            # a task that raises one of these ends run_forever; whoever awaits the task has it too
            with suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()
        self._loop.run_until_complete(self._drain())
        self._loop.close()

    async def _drain(self) -> None:
        finishing = [task for task in list(_finishing) if task.get_loop() is self._loop]
        if finishing:
            await asyncio.wait(finishing, timeout=FINISH_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                me, cancelled = asyncio.current_task(), set[asyncio.Task[Any]]()
                while tasks := asyncio.all_tasks() - {me}:
                    for task in tasks - cancelled:
                        task.cancel()
                    cancelled |= tasks
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await self._loop.shutdown_asyncgens()

    # --- the process's end --------------------------------------------------------------------------------------

    def end(self) -> None:
        """Let the calls of threads that are waited for anyway come to an end; cancel the rest; stop."""
        with suppress(KeyboardInterrupt):
            while self._is_needed():
                time.sleep(POLL_S)
        self._ending = True
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(FINISH_S + GRACE_S + 1.0)

    def _is_needed(self) -> bool:
        if any(map(_is_waited_for, list(self._callers))):
            return True
        # between two batches a reader is not in a call; one that does not come back holds nothing up for long
        return time.monotonic() - self._last_call < GRACE_S and any(map(_is_waited_for, list(self._streams)))


def _is_waited_for(thread: threading.Thread) -> bool:
    return thread.is_alive() and not thread.daemon and thread is not threading.current_thread()


def _wait(one: _Call, cancels: int | None) -> None:
    """Wait for a call so that Ctrl-C can interrupt it everywhere; `cancels` is `_cancels()` of before the call."""
    while cancels is not None and not one.done:  # under `asyncio.run`, Ctrl-C does no more than cancel our task
        one.wait(POLL_S)
        if (_cancels() or 0) > cancels:
            raise asyncio.CancelledError
    while os.name == "nt" and not one.done:  # where no signal ends the wait for a lock
        one.wait(POLL_S)
    one.wait()


def _cancels() -> int | None:
    """How often the task that runs here was cancelled; None outside tasks."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return task.cancelling() if task is not None else None


def _bring_back(before: Context, after: Context) -> None:
    """Set for the caller what the call set in its context, as an awaited coroutine would have."""
    unset = object()
    for variable, value in after.items():
        if before.get(variable, unset) is not value:
            variable.set(value)


_kept: set[asyncio.Task[None]] = set()


def _keep(loop: asyncio.AbstractEventLoop, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start closing something that nobody waits for. The loop itself holds tasks only weakly."""
    task = loop.create_task(aclose())
    _kept.add(task)
    task.add_done_callback(_kept.discard)


# --- the one of this process -----------------------------------------------------------------------------------------

_current: _Portal | None = None
_has_ended = False
_lock = threading.Lock()


def _home(instead: str) -> _Home:
    if worker := current_worker():
        return _RunLoop(worker.loop)
    portal = _current or _make()
    if portal.here:
        raise SyncInAsyncError(
            f"A sync method was called on the event loop that would have to run it, and would wait for itself: "
            f"use `await ….{instead}(…)` here"
        )
    return portal


def _make() -> _Portal:
    global _current
    with _lock:
        if _current is None:
            _current = _Portal()
            _at_exit(_end)
        return _current


def _end() -> None:
    global _current, _has_ended
    _has_ended = True
    portal, _current = _current, None
    if portal is not None:
        portal.end()


def _at_exit(hook: Callable[[], None]) -> None:
    # `threading`'s hooks run before the interpreter waits for threads, so that cleanup can still use some
    register = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(hook)
    except RuntimeError:  # that time has passed: a thread outlived the main one, and called
        atexit.register(hook)


def _forget() -> None:
    global _current, _lock
    _current, _lock = None, threading.Lock()
    _finishing.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
