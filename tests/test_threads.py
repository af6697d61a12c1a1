"""The pool for blocking code: bounded, lent while waiting, and never in the way of the process's end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest

from agentrt import _threads
from agentrt._threads import Threads, call_on_loop, current_worker, run_in_thread

var: ContextVar[str] = ContextVar("var", default="unset")


async def test_a_thread_sees_the_context_variables_of_its_caller() -> None:
    async def ask(value: str) -> str:
        var.set(value)
        return await run_in_thread(var.get)

    assert await asyncio.gather(ask("one"), ask("two")) == ["one", "two"]
    assert var.get() == "unset"


async def test_an_error_of_the_thread_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0)


async def test_jobs_in_turn_use_one_thread() -> None:
    pool = Threads(8)
    names = {await pool.run(threading.get_ident) for _ in range(20)}
    assert len(names) == 1


async def test_no_more_jobs_run_at_once_than_the_pool_has_slots() -> None:
    pool = Threads(2)
    lock = threading.Lock()
    running: list[int] = []
    most = 0
    full = threading.Barrier(2)

    def job() -> None:
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
        full.wait(5)
        with lock:
            running.pop()

    async with asyncio.timeout(10):
        await asyncio.gather(*(pool.run(job) for _ in range(8)))
    assert most == 2


def test_one_pool_serves_several_event_loops() -> None:
    pool = Threads(1)

    async def main() -> int:
        return await pool.run(threading.get_ident)

    assert asyncio.run(main()) == asyncio.run(main())


async def test_a_worker_runs_coroutines_on_the_loop_it_works_for() -> None:
    loop = asyncio.get_running_loop()

    async def where() -> tuple[object, str]:
        return asyncio.get_running_loop(), var.get()

    var.set("mine")
    assert await run_in_thread(lambda: call_on_loop(where)) == (loop, "mine")


async def test_only_a_worker_thread_is_a_worker() -> None:
    assert current_worker() is None
    worker = await run_in_thread(current_worker)
    assert worker is not None and worker.loop is asyncio.get_running_loop()
    with pytest.raises(RuntimeError, match="Only a worker thread"):
        call_on_loop(asyncio.sleep, 0)


async def test_nested_work_cannot_deadlock_a_pool_of_one() -> None:
    pool = Threads(1)

    async def nested(depth: int) -> int:
        return await pool.run(blocking, depth)

    def blocking(depth: int) -> int:
        return depth if depth == 0 else depth + call_on_loop(nested, depth - 1)

    async with asyncio.timeout(5):
        assert await asyncio.gather(nested(3), nested(3), nested(3)) == [6, 6, 6]
        assert await pool.run(int) == 0


async def test_an_error_on_the_loop_reaches_the_thread() -> None:
    async def fail() -> None:
        raise SystemExit(3)  # of all errors the one that would end the loop

    def work() -> str:
        try:
            call_on_loop(fail)
        except SystemExit as error:
            return f"got {error.code}"
        return "nothing"

    assert await run_in_thread(work) == "got 3"


async def test_a_cancelled_wait_leaves_the_thread_and_frees_its_slot() -> None:
    pool = Threads(1)
    entered, leave = threading.Event(), threading.Event()
    told: list[str] = []

    def stuck() -> None:
        entered.set()
        leave.wait(5)

    waiting = asyncio.create_task(pool.run(stuck, on_abandon=lambda: told.append("abandoned")))
    await asyncio.to_thread(entered.wait, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5):
        assert await pool.run(int) == 0
    assert told == ["abandoned"]
    leave.set()


async def test_a_job_cancelled_while_it_queues_never_runs() -> None:
    pool = Threads(1)
    entered, leave = threading.Event(), threading.Event()
    ran: list[int] = []
    first = asyncio.create_task(pool.run(lambda: (entered.set(), leave.wait(5))))
    await asyncio.to_thread(entered.wait, 5)
    queued = asyncio.create_task(pool.run(ran.append, 1))
    await asyncio.sleep(0)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    leave.set()
    await first
    await pool.run(int)
    assert ran == []


async def test_cancelling_ends_what_the_thread_runs_on_the_loop() -> None:
    on_loop = asyncio.Event()
    cleaned: list[int] = []
    seen: list[str] = []
    over = threading.Event()

    async def forever() -> None:
        try:
            on_loop.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)

    def work() -> None:
        try:
            call_on_loop(forever)
        except asyncio.CancelledError:
            seen.append("cancelled")
        try:
            call_on_loop(forever)  # given up: nothing more is started
        except asyncio.CancelledError:
            seen.append("refused")
        over.set()

    async with asyncio.timeout(5):
        waiting = asyncio.create_task(run_in_thread(work))
        await on_loop.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert cleaned == [1]
        await asyncio.to_thread(over.wait, 5)
    assert seen == ["cancelled", "refused"]
    assert len(asyncio.all_tasks()) == 1


async def test_a_call_cancelled_before_its_first_step_ends_for_its_thread_too() -> None:
    pool = Threads(1)
    entered, go, lent, over = (threading.Event() for _ in range(4))

    def work() -> None:
        entered.set()
        go.wait(5)
        try:
            call_on_loop(asyncio.sleep, 60)
        except asyncio.CancelledError:
            over.set()

    async with asyncio.timeout(10):
        waiting = asyncio.create_task(pool.run(work))
        await asyncio.to_thread(entered.wait, 5)
        following = asyncio.create_task(pool.run(lent.set))
        await asyncio.sleep(0)
        go.set()
        assert lent.wait(5)  # holds the loop until the call is queued there, which is when the slot is lent
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(over.wait, 5)
        await following


def test_a_stuck_thread_does_not_hold_up_the_exit_of_the_process() -> None:
    script = """
import asyncio, threading
from agentrt._threads import run_in_thread
async def main():
    entered = threading.Event()
    task = asyncio.create_task(run_in_thread(lambda: (entered.set(), threading.Event().wait())))
    await asyncio.to_thread(entered.wait)
    task.cancel()
asyncio.run(main())
print("over")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "over\n"


@pytest.mark.skipif(not hasattr(_threads.os, "fork"), reason="needs os.fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    script = """
import asyncio, os
from agentrt._threads import run_in_thread
assert asyncio.run(run_in_thread(int)) == 0
child = os.fork()
if child == 0:
    os._exit(asyncio.run(run_in_thread(lambda: 7)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "7\n"


def test_a_pool_has_at_least_one_slot() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        Threads(0)
