"""F16: parallel calls of which some fail."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from agentrt import Agent
from tests.cases.kit import add_chat, add_claude, call, claude, go, only_this_task, openai, text_block, use_block, ways
from tests.cases.pairing import check_chat, check_claude, tool_messages, tool_results
from tests.http_server import Server


class Together:
    """Calls that wait for each other: only when all run at once does any of them end."""

    def __init__(self, count: int) -> None:
        self.barrier = asyncio.Barrier(count)

    async def slow(self) -> str:
        await self.barrier.wait()
        await asyncio.sleep(0.05)
        return "S"

    async def bad(self) -> str:
        await self.barrier.wait()
        raise ValueError

    async def gone(self) -> str:
        await self.barrier.wait()
        raise asyncio.CancelledError

    async def quick(self) -> str:
        await self.barrier.wait()
        return "Q"


NAMES = ["slow", "bad", "gone", "quick"]


@ways
async def test_each_call_has_its_own_end_and_none_takes_others_along(server: Server, way: str) -> None:
    add_chat(server, way, calls=[call(f"c{at}", name) for at, name in enumerate(NAMES)])
    add_chat(server, way, "done")
    tools = Together(4)
    outcome = await go(Agent(model=openai(server), tools=[tools.slow, tools.bad, tools.gone, tools.quick]), way)

    check_chat(server.bodies[1])
    told = tool_messages(server.bodies[1])
    assert list(told) == ["c0", "c1", "c2", "c3"]
    assert (told["c0"], told["c3"]) == ("S", "Q")
    assert "ValueError" in told["c1"] and "Cancelled" in told["c2"]
    assert [tool.tool_call_error for tool in outcome.response.tools] == [False, True, True, False]
    assert [tool.error for tool in outcome.response.tools][1].startswith("ValueError")  # pyright: ignore
    assert outcome.response.content == "done"
    await only_this_task()


@ways
async def test_the_same_over_anthropic(server: Server, way: str) -> None:
    add_claude(server, way, *(use_block(f"t{at}", name) for at, name in enumerate(NAMES)))
    add_claude(server, way, text_block("done"))
    tools = Together(4)
    await go(Agent(model=claude(server), tools=[tools.slow, tools.bad, tools.gone, tools.quick]), way)

    check_claude(server.bodies[1])
    results = tool_results(server.bodies[1])
    assert list(results) == ["t0", "t1", "t2", "t3"]
    assert [result.get("is_error", False) for result in results.values()] == [False, True, True, False]


def exit_() -> str:
    raise SystemExit(3)


def stop() -> str:
    raise StopIteration


async def group() -> str:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.sleep(30))
        tasks.create_task(asyncio.to_thread(stop_with, KeyError("k")))
    return "never"


def stop_with(error: Exception) -> None:
    raise error


def cancelled() -> str:
    raise asyncio.CancelledError


async def cancels_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(30)
    return "never"


async def times_out() -> str:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(30)
    return "never"


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def wordless() -> str:
    raise Odd


@pytest.mark.parametrize(
    ("tool", "named"),
    [(exit_, "SystemExit"), (stop, "StopIteration"), (group, "KeyError"), (cancelled, "Cancelled"),
     (cancels_itself, ""), (times_out, "TimeoutError"), (wordless, "Odd")],
)  # fmt: skip
async def test_however_a_tool_ends_the_run_goes_on(server: Server, tool: Any, named: str) -> None:
    def quick() -> str:
        return "Q"

    add_chat(server, "streamed", calls=[call("c0", tool.__name__), call("c1", "quick")])
    add_chat(server, "streamed", "done")
    outcome = await go(Agent(model=openai(server), tools=[tool, quick]), "streamed")

    check_chat(server.bodies[1])
    told = tool_messages(server.bodies[1])
    assert told["c1"] == "Q" and told["c0"] and named in told["c0"]
    assert outcome.response.content == "done" and outcome.response.tools[0].tool_call_error
    await only_this_task()


async def test_sync_and_async_tools_of_a_turn_run_together(server: Server) -> None:
    def blocking() -> str:
        time.sleep(0.3)
        return "B"

    async def waiting() -> str:
        await asyncio.sleep(0.3)
        return "W"

    add_chat(server, "plain", calls=[call(f"c{at}", "blocking" if at % 2 else "waiting") for at in range(8)])
    add_chat(server, "plain", "done")
    started = time.monotonic()
    await go(Agent(model=openai(server), tools=[blocking, waiting]), "plain")

    assert time.monotonic() - started < 1.5  # one after the other it would be 2.4
    assert list(tool_messages(server.bodies[1]).values()) == ["W", "B"] * 4
