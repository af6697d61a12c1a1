"""Cancelling by id: at once, when the tools are done, when the turn is done; from here and from elsewhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunContext, RunStatus
from agentrt.run.events import RunCancelled
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import Gate, ScriptedModel, reply
from tests.run.test_history import paired

pytestmark = pytest.mark.timeout(20)


class Working:
    """A run that streams, then calls a tool that waits to be let go on."""

    def __init__(self, *replies: Any) -> None:
        self.working, self.go_on = asyncio.Event(), asyncio.Event()
        self.storage = InMemoryStorage()

        async def work() -> str:
            self.working.set()
            await self.go_on.wait()
            return "worked"

        self.model = ScriptedModel(reply("Let me see", tool_calls=[("work", {})]), *replies)
        self.agent: Agent[Any] = Agent(
            model=self.model, tools=[work], storage=self.storage, add_history_to_messages=True, session_id="s"
        )


async def test_now_cuts_the_tool_short_and_returns_a_cancelled_response() -> None:
    w = Working()
    running = asyncio.create_task(w.agent.arun("go", run_id="r"))
    await w.working.wait()
    assert await w.agent.cancel("r", "enough")
    response = await running
    assert response.status is RunStatus.CANCELLED and response.content == "Let me see"
    assert response.tools[0].error == "interrupted"
    assert paired(response.messages)


async def test_after_tools_keeps_the_results_and_asks_no_more() -> None:
    w = Working()
    running = asyncio.create_task(w.agent.arun("go", run_id="r"))
    await w.working.wait()
    await w.agent.cancel("r", mode="after_tools")
    await asyncio.sleep(0)
    assert not running.done()
    w.go_on.set()
    response = await running
    assert response.status is RunStatus.CANCELLED
    assert response.tools[0].result == "worked" and len(w.model.requests) == 1


async def test_after_tools_does_not_wait_for_a_model() -> None:
    gate = Gate()
    agent = Agent(model=ScriptedModel(reply("never", gate=gate)), storage=InMemoryStorage())
    running = asyncio.create_task(agent.arun("go", run_id="r"))
    await gate.reached.wait()
    await agent.cancel("r", mode="after_tools")
    assert (await running).status is RunStatus.CANCELLED


async def test_after_turn_lets_the_model_and_its_tools_finish() -> None:
    gate = Gate()
    ran: list[int] = []

    def work() -> str:
        ran.append(1)
        return "worked"

    model = ScriptedModel(reply(tool_calls=[("work", {})], gate=gate))
    agent = Agent(model=model, tools=[work], storage=InMemoryStorage())
    running = asyncio.create_task(agent.arun("go", run_id="r"))
    await gate.reached.wait()
    await agent.cancel("r", mode="after_turn")
    gate.open()
    response = await running
    assert response.status is RunStatus.CANCELLED and ran == [1] and len(model.requests) == 1


async def test_after_turn_completes_a_run_that_ends_by_itself() -> None:
    gate = Gate()
    agent = Agent(model=ScriptedModel(reply("done", gate=gate)), storage=InMemoryStorage())
    running = asyncio.create_task(agent.arun("go", run_id="r"))
    await gate.reached.wait()
    await agent.cancel("r", mode="after_turn")
    gate.open()
    assert (await running).status is RunStatus.COMPLETED


async def test_a_cancelled_run_says_why_in_its_last_event() -> None:
    w = Working()
    async with w.agent.stream("go", run_id="r") as run:
        reading = asyncio.create_task(_all(run))
        await w.working.wait()
        await w.agent.cancel("r", "the user left")
        events = await reading
    assert isinstance(events[-1], RunCancelled) and events[-1].content == "the user left"


async def _all(run: Any) -> list[Any]:
    return [event async for event in run]


async def test_a_child_run_is_cancelled_with_its_parent() -> None:
    started = asyncio.Event()
    storage = InMemoryStorage()

    async def hang() -> str:
        started.set()
        await asyncio.Event().wait()
        return "never"

    inner = Agent(name="inner", model=ScriptedModel(reply(tool_calls=[("hang", {})])), tools=[hang], storage=storage)

    async def ask() -> str:
        return (await inner.arun("go", run_id="child")).content or ""

    outer = Agent(model=ScriptedModel(reply(tool_calls=[("ask", {})])), tools=[ask], storage=storage)
    running = asyncio.create_task(outer.arun("go", run_id="parent"))
    await started.wait()
    await outer.cancel("parent")
    assert (await running).status is RunStatus.CANCELLED
    child = await storage.load_run("child")
    assert child is not None and child.status is RunStatus.CANCELLED and child.parent_run_id == "parent"


async def test_a_sync_tool_sees_the_flag() -> None:
    started, saw = threading.Event(), threading.Event()

    def long(ctx: RunContext) -> str:
        started.set()
        while not ctx.cancelled:
            time.sleep(0.001)
        saw.set()
        return "stopped"

    agent = Agent(model=ScriptedModel(reply(tool_calls=[("long", {})])), tools=[long], storage=InMemoryStorage())
    running = asyncio.create_task(agent.arun("go", run_id="r"))
    await asyncio.to_thread(started.wait, 5)
    await agent.cancel("r")
    assert (await running).status is RunStatus.CANCELLED
    assert await asyncio.to_thread(saw.wait, 5)


def test_a_sync_tool_that_ignores_the_flag_holds_up_neither_the_run_nor_the_exit() -> None:
    program = """
import asyncio, threading, time
from agentrt import Agent
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import ScriptedModel, reply
started = threading.Event()
def stuck() -> str:
    started.set()
    time.sleep(60)
    return "never"
async def main():
    agent = Agent(model=ScriptedModel(reply(tool_calls=[("stuck", {})])), tools=[stuck], storage=InMemoryStorage())
    running = asyncio.create_task(agent.arun("go", run_id="r"))
    await asyncio.to_thread(started.wait)
    await agent.cancel("r")
    print((await running).status)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=15, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "CANCELLED\n", "")


async def test_a_run_that_is_not_driven_is_not_cancelled(tmp_path: Path) -> None:
    agent = Agent(model=ScriptedModel("done"), storage=InMemoryStorage())
    await agent.arun("go", run_id="r")
    assert not await agent.cancel("r")
    assert not await agent.cancel("nope")


async def test_what_was_said_by_then_is_in_the_history_marked_as_cut_off() -> None:
    gate = Gate()
    model = ScriptedModel(reply("one two three", gate=gate, gate_after=2), "fine")
    agent = Agent(model=model, storage=InMemoryStorage(), session_id="s", add_history_to_messages=True)
    async with agent.stream("count") as run:
        reading = asyncio.create_task(_all(run))
        await gate.reached.wait()
        run.cancel()
        await reading
    await agent.arun("go on")
    sent = [m.content or "" for m in model.last_request.messages]
    assert sent[0] == "count" and sent[2] == "go on"
    assert sent[1].startswith("one two ") and "cut off" in sent[1]
