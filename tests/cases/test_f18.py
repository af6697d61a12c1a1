"""F18: blocking tools, context variables, time-outs."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import Any

import pytest

from agentrt import Agent, tool
from tests.cases.kit import add_chat, call, go, only_this_task, openai, ways
from tests.cases.pairing import check_chat, tool_messages
from tests.http_server import Reply, Request, Server, completion

var: ContextVar[str] = ContextVar("var", default="unset")


def sync_tool() -> str:
    time.sleep(0.2)
    return var.get()


def sync_generator() -> Any:
    time.sleep(0.1)
    yield var.get()
    time.sleep(0.1)
    yield var.get()


async def tick(ticks: list[float]) -> None:
    while True:
        ticks.append(time.monotonic())
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(("function", "expected"), [(sync_tool, "req-7"), (sync_generator, "req-7req-7")])
@ways
async def test_a_blocking_tool_sees_the_callers_context_and_holds_up_nobody(
    server: Server, way: str, function: Any, expected: str
) -> None:
    add_chat(server, way, calls=[call("c1", function.__name__)])
    add_chat(server, way, "done")
    ticks: list[float] = []
    ticker = asyncio.create_task(tick(ticks))
    var.set("req-7")
    outcome = await go(Agent(model=openai(server), tools=[function]), way)
    ticker.cancel()

    assert tool_messages(server.bodies[1]) == {"c1": expected}
    first, second = server.requests
    assert (outcome.response.tools[0].elapsed_s or 0) >= 0.2
    assert sum(first.time < moment < second.time for moment in ticks) >= 3  # on the loop it would let none through


def answer(request: Request) -> Reply:
    messages = request.json["messages"]
    if messages[-1]["role"] == "tool":
        return Reply(json=completion(messages[-1]["content"]))
    return Reply(json=completion(tool_calls=[{"id": "c1", "name": "sync_tool", "arguments": "{}"}]))


async def test_runs_in_flight_keep_their_contexts_apart(server: Server) -> None:
    server.answer = answer
    agent = Agent(model=openai(server), tools=[sync_tool])

    async def one(value: str) -> str | None:
        var.set(value)
        return (await agent.arun("hi")).content

    assert await asyncio.gather(*(one(f"req-{at}") for at in range(5))) == [f"req-{at}" for at in range(5)]
    assert var.get() == "unset"


async def test_the_sync_entry_hands_its_context_on(server: Server) -> None:
    server.answer = answer
    agent = Agent(model=openai(server), tools=[sync_tool])
    var.set("req-9")

    assert (await asyncio.to_thread(agent.run, "hi")).content == "req-9"


@ways
async def test_a_hanging_tool_is_cut_off_cleaned_up_and_told(server: Server, way: str) -> None:
    cleaned: list[int] = []

    @tool(timeout_s=0.3)
    async def hang() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(1)
        return "never"

    @tool(timeout_s=0.3)
    async def hang_stream() -> Any:
        try:
            yield "a"
            await asyncio.sleep(60)
        finally:
            cleaned.append(2)

    async def fine() -> str:
        return "fine"

    add_chat(server, way, calls=[call("c1", "hang"), call("c2", "fine"), call("c3", "hang_stream")])
    add_chat(server, way, "done")
    started = time.monotonic()
    outcome = await go(Agent(model=openai(server), tools=[hang, fine, hang_stream]), way)

    assert time.monotonic() - started < 5
    assert sorted(cleaned) == [1, 2]
    check_chat(server.bodies[1])
    told = tool_messages(server.bodies[1])
    assert told["c2"] == "fine" and "0.3 s" in told["c1"] and "0.3 s" in told["c3"]
    assert outcome.response.tools[0].tool_call_error and (outcome.response.tools[0].elapsed_s or 0) < 3
    await only_this_task()
