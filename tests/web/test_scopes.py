"""Cancel scopes of anyio, which cancel every await until they are left: the run's last write is done all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from agentrt import Agent, RunStatus
from agentrt.run.events import RunContent
from agentrt.testing import ScriptedModel, reply
from tests.http_server import Server
from tests.web.serving import StandingStill


@pytest.fixture
async def still(server: Server, tmp_path: Path) -> AsyncIterator[StandingStill]:
    async with asyncio.timeout(20):
        work = StandingStill(server, tmp_path)
        yield work
        await work.aclose()


async def test_a_plain_run_in_a_cancelled_scope(still: StandingStill) -> None:
    tasks = asyncio.all_tasks()

    async def cancel() -> None:
        await still.provider.until(lambda: still.gate.reached)
        scope.cancel()

    canceller = asyncio.create_task(cancel())
    with anyio.CancelScope() as scope:
        await still.agent.arun("go")
    await still.check_stored(None)
    await canceller
    await still.check_ended(tasks, None)


async def test_a_plain_run_that_is_out_of_time(still: StandingStill) -> None:
    tasks = asyncio.all_tasks()

    async def expire() -> None:
        await still.provider.until(lambda: still.gate.reached)
        scope.deadline = anyio.current_time()

    clock = asyncio.create_task(expire())
    with anyio.move_on_after(60) as scope:
        await still.agent.arun("go")
    assert scope.cancelled_caught
    await still.check_stored(None)
    await clock
    await still.check_ended(tasks, None)


async def test_a_plain_run_within_a_timeout_of_asyncio(still: StandingStill) -> None:
    tasks = asyncio.all_tasks()

    async def expire() -> None:
        await still.provider.until(lambda: still.gate.reached)
        timeout.reschedule(asyncio.get_running_loop().time())

    clock = asyncio.create_task(expire())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60) as timeout:
            await still.agent.arun("go")
    await still.check_stored(None)
    await clock
    await still.check_ended(tasks, None)


async def test_a_stream_in_a_cancelled_scope(still: StandingStill) -> None:
    tasks = asyncio.all_tasks()
    with anyio.CancelScope() as scope:
        async with still.agent.stream("go") as run:
            async for event in run:
                if isinstance(event, RunContent):
                    scope.cancel()
    await still.check_stored()
    await still.check_ended(tasks)


async def test_a_bare_loop_in_a_cancelled_scope(still: StandingStill) -> None:
    tasks = asyncio.all_tasks()
    with anyio.CancelScope() as scope:
        async for event in still.agent.arun("go", stream=True):
            if isinstance(event, RunContent):
                scope.cancel()
    await still.check_stored()
    await still.check_ended(tasks)


async def test_a_sibling_that_fails_in_a_task_group(still: StandingStill) -> None:
    tasks = asyncio.all_tasks()

    async def fail() -> None:
        await still.provider.until(lambda: still.gate.reached)
        raise LookupError("the other one")

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            await still.agent.arun("go")
    assert caught.group_contains(LookupError)
    await still.check_stored(None)
    await still.check_ended(tasks, None)


async def test_closing_twice_while_the_end_is_stored_ends_as_once(still: StandingStill) -> None:
    tasks = asyncio.all_tasks()
    async with still.agent.stream("go") as run:
        async for event in run:
            if isinstance(event, RunContent):
                break
        await asyncio.gather(run.aclose(), run.aclose())
        await run.aclose()
    await still.check_stored()
    await still.check_ended(tasks)


@pytest.mark.parametrize("turns", [0, 1, 2, 4, 8, 16])
async def test_leaving_while_a_cancelled_run_ends_still_gives_its_response(still: StandingStill, turns: int) -> None:
    async with still.agent.stream("go") as run:
        async for event in run:
            if isinstance(event, RunContent):
                break
        run.cancel("enough")
        for _ in range(turns):  # of the event loop: wherever the run's end has come to
            await asyncio.sleep(0)
    response = await run.result()
    assert (response.status, response.content) == (RunStatus.CANCELLED, "Hello")
    assert [event.event async for event in run][-1] == "RunCancelled"
    await still.check_stored()


async def test_a_tool_that_takes_the_cancellation_for_its_own_does_not_keep_the_run_going() -> None:
    working = asyncio.Event()

    async def work() -> str:
        working.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "went on all the same"
        return "never"

    model = ScriptedModel(reply(tool_calls=[("work", {})]), "never asked for")
    async with asyncio.timeout(5), Agent(model=model, tools=[work]).stream("go") as run:
        await working.wait()
        run.cancel()
        response = await run.result()
    assert response.status is RunStatus.CANCELLED
    assert [tool.result for tool in response.tools] == ["went on all the same"]
    assert model.remaining == 1
