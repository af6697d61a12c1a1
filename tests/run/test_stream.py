"""The reader goes away: in every way there is, the run ends, its answer is closed, and no task is left."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from agentrt import Agent, RunStatus
from agentrt.run.events import RunCancelled, RunContent
from agentrt.run.stream import Channel
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import ScriptedModel, reply
from agentrt.testing.models import Gate


class Work:
    """An agent that streams, then works in a tool until it is cancelled."""

    def __init__(self) -> None:
        self.cleaned = asyncio.Event()
        self.working = asyncio.Event()
        self.storage = InMemoryStorage()

        async def work() -> str:
            self.working.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cleaned.set()
            return "never"

        self.model = ScriptedModel(reply("Let me see", tool_calls=[("work", {})]), "next answer")
        self.agent: Agent[Any] = Agent(model=self.model, tools=[work], storage=self.storage, session_id="s")

    async def check_cancelled(self, run_id: str) -> None:
        async with asyncio.timeout(5):
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)
        assert self.model.open_streams == 0
        stored = await self.storage.load_run(run_id)
        assert stored is not None and stored.status is RunStatus.CANCELLED
        # the session takes the next run, with each call answered
        response = await self.agent.arun("and now?")
        assert response.content == "next answer"


pytestmark = pytest.mark.timeout(20)


async def reach_work(work: Work, stream: Any) -> str:
    async for event in stream:
        if event.event == "ToolCallStarted":
            break
    await work.working.wait()
    return stream.run_id


async def test_aclose_while_a_tool_runs() -> None:
    work = Work()
    stream = work.agent.arun("go", stream=True)
    run_id = await reach_work(work, stream)
    await stream.aclose()
    assert work.cleaned.is_set()
    await work.check_cancelled(run_id)


async def test_leaving_the_context_early() -> None:
    work = Work()
    async with work.agent.stream("go") as run:
        await reach_work(work, run)
    assert work.cleaned.is_set()
    await work.check_cancelled(run.run_id)


async def test_cancelling_the_task_that_reads() -> None:
    work = Work()
    ids: list[str] = []

    async def read() -> None:
        async with work.agent.stream("go") as run:
            ids.append(run.run_id)
            async for _ in run:
                pass

    reader = asyncio.create_task(read())
    await work.working.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    del reader
    await work.check_cancelled(ids[0])


async def test_dropping_the_last_reference() -> None:
    work = Work()
    stream = work.agent.arun("go", stream=True)
    run_id = await reach_work(work, stream)
    del stream
    gc.collect()
    await work.cleaned.wait()
    await work.check_cancelled(run_id)


async def test_closing_from_another_task_while_one_waits() -> None:
    work = Work()
    stream = work.agent.stream("go")
    run_id = await reach_work(work, stream)
    waiting = asyncio.create_task(stream.__anext__())
    await asyncio.sleep(0)
    await asyncio.create_task(stream.aclose())
    event = await waiting
    while not isinstance(event, RunCancelled):
        event = await stream.__anext__()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    del waiting
    await work.check_cancelled(run_id)


async def test_wait_for_around_anext_loses_no_event() -> None:
    gate = Gate()
    stream = Agent(model=ScriptedModel(reply("one two", gate=gate, gate_after=1))).stream("go")
    seen: list[str] = []
    while "one " not in seen:
        event = await stream.__anext__()
        seen.append(event.content)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.__anext__(), 0.02)
    gate.open()
    assert [e.content async for e in stream if isinstance(e, RunContent)] == ["two"]


async def test_closing_before_the_first_event_runs_nothing() -> None:
    work = Work()
    stream = work.agent.stream("go")
    await stream.aclose()
    assert work.model.requests == []
    assert len(asyncio.all_tasks()) == 1


async def test_cancelling_a_plain_run_cancels_its_tools_and_raises() -> None:
    work = Work()
    running = asyncio.create_task(work.agent.arun("go", run_id="r1"))
    await work.working.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.cleaned.is_set()
    del running
    await work.check_cancelled("r1")


async def test_cancel_gives_a_cancelled_response_with_the_text_so_far() -> None:
    work = Work()
    async with work.agent.stream("go") as run:
        await reach_work(work, run)
        run.cancel("enough")
        response = await run.result()
    assert response.status is RunStatus.CANCELLED
    assert response.content == "Let me see"


async def test_a_slow_reader_gets_deltas_joined_and_facts_whole() -> None:
    channel = Channel(all_steps=True)
    for n in range(20_000):
        channel.emit(RunContent(run_id="r", content=f"{n} "))
    assert len(channel.events) < 5_000
    assert "".join(event.content for event in channel.events) == "".join(f"{n} " for n in range(20_000))


async def test_a_text_stream_is_the_roots_alone() -> None:
    async def ask() -> str:
        return (await Agent(model=ScriptedModel("inner")).arun("x")).content or ""

    model = ScriptedModel(reply(tool_calls=[("ask", {})]), "outer")
    async with Agent(model=model, tools=[ask]).stream("go") as run:
        assert await run.text() == "outer"
