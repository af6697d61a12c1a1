from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

import pytest

from agentrt import Agent
from agentrt._sync import GRACE_S, POLL_S, call, iterate
from agentrt.errors import SyncInAsyncError
from agentrt.models.base import ModelRequest
from agentrt.run.events import RunContent
from agentrt.testing import FunctionModel, Gate, ScriptedModel, Signal, reply
from tests.sync_streams import Stream, double

number: ContextVar[int] = ContextVar("number", default=0)


async def fail() -> None:
    raise ValueError("no such city")


# --- call ------------------------------------------------------------------------------------------------------------


def test_two_calls_in_a_row_run_on_one_loop():
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert call(double, 2) == 4
    assert call(double, value=3) == 6
    assert call(loop) is call(loop)


def test_the_coroutines_error_is_raised():
    with pytest.raises(ValueError, match="no such city"):
        call(fail)


def test_a_call_sees_the_callers_context_and_its_changes_come_back():
    async def bump() -> int:
        number.set(number.get() + 1)
        return number.get()

    number.set(41)
    assert call(bump) == 42
    assert number.get() == 42


def test_five_threads_call_at_once():
    all_here = threading.Barrier(5, timeout=5)

    async def meet(value: int) -> int:
        await asyncio.to_thread(all_here.wait)
        return value

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda value: call(meet, value), range(5))) == [0, 1, 2, 3, 4]


def test_a_call_works_inside_a_running_loop():
    async def main() -> int:
        return call(double, 4)

    assert asyncio.run(main()) == 8


def test_on_the_portals_own_thread_the_error_names_the_async_method():
    async def nested() -> None:
        call(double, 1, instead="acontinue_run")

    async def nested_stream() -> None:
        iterate(Stream().open, instead="astream")

    with pytest.raises(SyncInAsyncError, match="acontinue_run"):
        call(nested)
    with pytest.raises(SyncInAsyncError, match="astream"):
        call(nested_stream)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_inside_a_task_leaves_the_loop_running(error: BaseException):
    async def leave() -> None:
        raise error

    async def leave_in_a_task() -> None:
        await asyncio.gather(asyncio.create_task(leave()))

    with pytest.raises(type(error)):
        call(leave)
    with pytest.raises(type(error)):
        call(leave_in_a_task)
    assert call(double, 1) == 2


def test_an_error_keeps_nothing_of_its_call_alive():
    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    async def take(big: Big) -> None:
        raise ValueError("with its frames")

    gc.disable()  # freed by counting alone: no cycle through the error's traceback
    try:
        with suppress(ValueError):
            call(take, Big())
        call(double, 1)
        assert Big.alive == 0
    finally:
        gc.enable()


def test_cancelling_the_task_that_is_blocked_in_a_call_cancels_the_call():
    cleaned, started = Signal(), Signal()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        threading.Thread(target=lambda: (started.wait_in_thread(), task.cancel())).start()
        call(endless)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert cleaned.is_set()


def test_a_call_that_is_cancelled_before_it_has_begun_is_not_waited_for():
    blocked, started = threading.Event(), Signal()

    async def block() -> None:
        started.set()
        blocked.wait(10)

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with ThreadPoolExecutor() as pool:
            pool.submit(call, block)
            started.wait_in_thread()
            # its start and its cancellation will be there together when the portal's loop comes to them
            threading.Timer(2 * POLL_S, task.cancel).start()
            threading.Timer(5 * POLL_S, blocked.set).start()
            try:
                call(double, 1)
            finally:
                waited_s.append(time.monotonic() - start)

    waited_s: list[float] = []
    start = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert waited_s[0] < GRACE_S / 2


# --- iterate ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_read_to_its_end_and_closed():
    stream = Stream()

    assert list(iterate(stream.open)) == [0, 1, 2, 3, 4]
    assert stream.closed.is_set()


def test_break_closes_the_stream():
    stream = Stream(end=None)
    for item in iterate(stream.open):
        if item == 1:
            break

    stream.closed.wait_in_thread()


def test_an_error_of_the_reader_closes_the_stream():
    stream = Stream(end=None)
    with pytest.raises(KeyError):
        for _ in iterate(stream.open):
            raise KeyError

    stream.closed.wait_in_thread()


def test_an_error_of_the_stream_is_raised_and_closes_it():
    class Failing(Stream):
        async def next_batch(self) -> list[int]:
            if not self.batches:
                raise ValueError("broke")
            return await super().next_batch()

    stream, items = Failing(), list[int]()
    with pytest.raises(ValueError, match="broke"):
        items.extend(iterate(stream.open))

    assert stream.closed.is_set()


def test_a_dropped_stream_is_closed_by_the_garbage_collector():
    stream = Stream(end=None)
    items = iterate(stream.open)
    next(items)
    del items
    gc.collect()

    stream.closed.wait_in_thread()


def test_a_stream_that_is_collected_on_the_portals_own_thread_is_closed():
    stream = Stream(end=None)
    held = [iterate(stream.open)]
    next(held[0])

    async def drop() -> None:
        held.clear()
        gc.collect()

    call(drop)
    stream.closed.wait_in_thread()


# --- the life of a process -------------------------------------------------------------------------------------------

HEADER = """
import asyncio, os, signal, sys, threading, time
from agentrt._sync import GRACE_S, POLL_S, call, iterate
from tests.sync_streams import Stream, double

async def endless():
    print("started", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("cleaned", flush=True)
"""


def script(body: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEADER + body],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def output(body: str) -> str:
    with script(body) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    return out


def interrupted(body: str) -> tuple[str, str]:
    """The output of a script that gets a SIGINT once it has said "started"."""
    import signal

    with script(body) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == "started\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    return out, err


def test_ctrl_c_cancels_the_call_waits_for_its_cleanup_and_is_raised():
    out, err = interrupted(
        """
try:
    call(endless)
except KeyboardInterrupt:
    print("interrupted")
print(call(double, 2))
"""
    )
    assert (out, err) == ("cleaned\ninterrupted\n4\n", "")


def test_ctrl_c_under_asyncio_run_cancels_the_blocking_call_too():
    out, err = interrupted(
        """
async def main():
    call(endless)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert (out, err) == ("cleaned\ninterrupted\n", "")


def test_ctrl_c_closes_the_stream_that_is_read():
    out, err = interrupted(
        """
class Telling(Stream):
    async def next_batch(self):
        if not self.batches:
            print("started", flush=True)
        return await super().next_batch()

stream = Telling(end=None)
try:
    for item in iterate(stream.open):
        pass
except KeyboardInterrupt:
    print("interrupted", stream.closed.is_set())
"""
    )
    assert (out, err) == ("interrupted True\n", "")


def test_a_second_ctrl_c_does_not_wait_for_the_cleanup():
    out, err = interrupted(
        """
async def stubborn():
    print("started", flush=True)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.5)
begun = time.monotonic()
try:
    call(stubborn)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - begun < 5)
"""
    )
    assert (out, err) == ("interrupted True\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="the platform has no fork")
def test_a_forked_child_starts_a_loop_of_its_own_and_the_parents_goes_on():
    out = output(
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a process with threads was forked
stream = Stream(end=None)
items = iterate(stream.open)
next(items)
call(double, 1)
child = os.fork()
if child == 0:
    print("child", call(double, 2), flush=True)
    try:
        list(items)
    except RuntimeError as error:
        print(error, flush=True)
    sys.exit()
os.waitpid(child, 0)
print("parent", call(double, 3), next(items))
items.close()
print(stream.closed.is_set())
"""
    )
    assert out == (
        "child 4\nThe event loop of this stream is gone: the process was forked, or is at its end\nparent 6 1\nTrue\n"
    )


def test_work_that_nobody_waits_for_is_cancelled_at_exit():
    out = output(
        """
async def leave_behind():
    global task
    task = asyncio.create_task(endless())
    await asyncio.sleep(0)

async def held():
    try:
        yield 1
    finally:
        await asyncio.sleep(0)
        print("generator closed", flush=True)

async def hold():
    global generator
    generator = held()
    await anext(generator)

call(leave_behind)
call(hold)
stream = Stream(end=None)
items = iterate(stream.open)
next(items)
threading.Thread(target=call, args=(endless,), daemon=True).start()
time.sleep(0.2)
"""
    )
    assert sorted(out.split()) == sorted(["started", "started", "cleaned", "cleaned", "generator", "closed"])


def test_a_thread_that_outlives_the_main_thread_may_finish_and_call_again():
    out = output(
        """
async def slow():
    await asyncio.sleep(0.3)
    return await asyncio.to_thread(lambda: "slow")

def work():
    print(call(slow), flush=True)
    for item in iterate(Stream().open):
        time.sleep(0.05)
    print(item, call(double, 2), flush=True)

threading.Thread(target=work).start()
call(double, 1)
"""
    )
    assert out == "slow\n4 4\n"


def test_a_task_that_will_not_end_does_not_hold_up_the_exit():
    with script(
        """
import agentrt._sync
agentrt._sync.GRACE_S = 0.2

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def leave_behind():
    global task
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)

call(leave_behind)
print("end")
"""
    ) as process:
        out, _ = process.communicate(timeout=20)
    assert out == "end\n"
    assert process.returncode == 0


def test_three_loops_in_a_row_leave_the_portal_working():
    async def main() -> int:
        return call(double, 1)

    assert [asyncio.run(main()) for _ in range(3)] == [2, 2, 2]


# --- agents ----------------------------------------------------------------------------------------------------------


def test_a_sync_tool_calls_another_agent_on_its_runs_own_loop():
    loops: list[asyncio.AbstractEventLoop] = []

    async def inner_reply(request: ModelRequest) -> str:
        loops.append(asyncio.get_running_loop())
        return "inner answer"

    def ask_inner() -> str:
        """Ask the other agent."""
        inner = Agent(model=FunctionModel(inner_reply))
        streamed = "".join(event.content for event in inner.run("b", stream=True) if isinstance(event, RunContent))
        assert streamed == "inner answer"
        return inner.run("a").content or ""

    async def main() -> None:
        with ScriptedModel(reply(tool_calls=[("ask_inner", {})]), "done") as model:
            async with asyncio.timeout(5):
                await Agent(model=model, tools=[ask_inner]).arun("go")
        assert model.last_request.messages[-1].content == "inner answer"
        assert loops == [asyncio.get_running_loop()] * 2

    asyncio.run(main())


def test_an_agent_runs_twice_in_a_row_and_streams():
    agent = Agent(model=ScriptedModel("one", "two", "three four"))

    assert [agent.run("a").content, agent.run("b").content] == ["one", "two"]
    assert "".join(e.content for e in agent.run("c", stream=True) if isinstance(e, RunContent)) == "three four"


def test_break_ends_the_stream_of_an_agent():
    gate = Gate()
    model = ScriptedModel(reply("one two three", gate=gate, gate_after=1))
    for event in Agent(model=model).run("a", stream=True):
        if isinstance(event, RunContent):
            break

    assert model.open_streams == 0


def test_five_threads_run_one_agent():
    model = FunctionModel(lambda request: request.messages[-1].content or "")
    agent = Agent(model=model)
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda text: agent.run(text).content, "abcde")) == list("abcde")
