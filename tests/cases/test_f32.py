"""F32: the consumer goes away. Part (g), a client that leaves an SSE endpoint, is in `tests/web`."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunStatus
from agentrt.run.events import RunCancelled
from agentrt.storage.base import Committed, RunChange
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import add_chat, add_claude, call, claude, only_this_task, openai, text_block
from tests.cases.pairing import check_chat, check_claude, tool_messages
from tests.http_server import Gate, Server, chat_chunk, chat_stream, sse, sse_events


class SlowStorage(InMemoryStorage):
    """Takes a moment for each commit, as a database far away does."""

    async def commit(self, change: RunChange) -> Committed:
        await asyncio.sleep(0.05)
        return await super().commit(change)


class Scene:
    """An agent whose model streams a text, waits at `gate`, and calls `work`, which works until it is cancelled."""

    def __init__(self, server: Server, storage: Any) -> None:
        self.server = server
        self.storage = storage
        self.gate: Gate = server.gate()
        self.working = asyncio.Event()
        self.cleaned = asyncio.Event()
        self.agent: Agent[Any] = Agent(
            model=openai(server), tools=[self.work], storage=storage, session_id="s", add_history_to_messages=True
        )
        text = sse(chat_chunk({"role": "assistant", "content": "Let me see"}), done=False)
        calls = [{"index": 0, **call("c1", "work")}]
        server.add(body=[text, self.gate, sse(chat_chunk({"tool_calls": calls}), chat_chunk({}, "tool_calls"))])

    async def work(self) -> str:
        self.working.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # cleaning up may wait
            self.cleaned.set()
        return "never"

    async def to_text(self, stream: Any) -> str:
        """Read to the first piece of text: the model is in the middle of its answer."""
        async for event in stream:
            if event.event == "RunContent":
                return event.run_id
        raise AssertionError("there was no text")

    async def to_work(self, stream: Any) -> str:
        """Read until the tool works."""
        self.gate.open()
        async for event in stream:
            if event.event == "ToolCallStarted":
                await self.working.wait()
                return event.run_id
        raise AssertionError("there was no call")

    async def check(self, run_id: str, *, in_tool: bool) -> None:
        """No task is left, the connection is closed, the run is stored as cancelled, and the session goes on."""
        await only_this_task()
        if in_tool:
            assert self.cleaned.is_set()
        else:
            async with asyncio.timeout(1):
                await self.server.until(lambda: self.server.closed_by_client == 1)
            assert self.server.interrupted == 1
        stored = await self.storage.load_run(run_id)
        assert stored is not None and stored.status is RunStatus.CANCELLED
        assert "Let me see" in [message.content for message in stored.messages]
        add_chat(self.server, "plain", "and on")
        response = await self.agent.arun("again")
        assert response.content == "and on"
        check_chat(self.server.bodies[-1])
        assert bool(tool_messages(self.server.bodies[-1])) is in_tool


@pytest.fixture(params=["memory", "sqlite", "slow"])
async def scene(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> AsyncIterator[Scene]:
    makers: dict[str, Callable[[], Any]] = {
        "memory": InMemoryStorage,
        "sqlite": lambda: SqliteStorage(db_file=tmp_path / "a.db"),
        "slow": SlowStorage,
    }
    storage = makers[request.param]()
    async with asyncio.timeout(15):
        yield Scene(server, storage)
        await storage.aclose()


moments = pytest.mark.parametrize("moment", ["text", "work"])


async def reach(scene: Scene, moment: str, stream: Any) -> str:
    return await (scene.to_text(stream) if moment == "text" else scene.to_work(stream))


@moments
async def test_breaking_off_and_closing(scene: Scene, moment: str) -> None:
    stream = scene.agent.arun("go", stream=True)
    run_id = await reach(scene, moment, stream)
    await stream.aclose()
    await stream.aclose()

    await scene.check(run_id, in_tool=moment == "work")


@moments
async def test_leaving_the_block(scene: Scene, moment: str) -> None:
    async with scene.agent.stream("go") as stream:
        run_id = await reach(scene, moment, stream)

    await scene.check(run_id, in_tool=moment == "work")


@moments
async def test_closing_a_generator_around_it(scene: Scene, moment: str) -> None:
    async def body() -> AsyncIterator[Any]:
        async with scene.agent.stream("go") as stream:
            async for event in stream:
                yield event

    events = body()
    run_id = await reach(scene, moment, events)
    await events.aclose()  # pyright: ignore[reportAttributeAccessIssue]  it is a generator

    await scene.check(run_id, in_tool=moment == "work")


@moments
async def test_cancelling_the_task_that_iterates(scene: Scene, moment: str) -> None:
    there = asyncio.Event()
    ids: list[str] = []

    async def consume() -> None:
        stream = scene.agent.arun("go", stream=True)
        ids.append(await reach(scene, moment, stream))
        there.set()
        async for _ in stream:
            pass

    consumer = asyncio.create_task(consume())
    await there.wait()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    del consumer
    gc.collect()

    await scene.check(ids[0], in_tool=moment == "work")


async def test_cancelling_a_plain_run(scene: Scene) -> None:
    run = asyncio.create_task(scene.agent.arun("go", run_id="r"))
    scene.gate.open()
    scene.server._queue.clear()  # the plain run wants a body
    add_chat(scene.server, "plain", "Let me see", calls=[call("c1", "work")])
    await scene.working.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    await scene.check("r", in_tool=True)


@moments
async def test_cancelling_again_and_again_does_not_keep_the_run_from_being_stored(scene: Scene, moment: str) -> None:
    """As scopes do that deliver their cancellation at every turn of the loop."""
    there = asyncio.Event()
    ids: list[str] = []

    async def consume() -> None:
        async with scene.agent.stream("go") as stream:
            ids.append(await reach(scene, moment, stream))
            there.set()
            async for _ in stream:
                pass

    consumer = asyncio.create_task(consume())
    await there.wait()
    while not consumer.done():
        consumer.cancel()
        await asyncio.sleep(0)
    del consumer
    gc.collect()

    await scene.check(ids[0], in_tool=moment == "work")


@moments
async def test_dropping_the_last_reference(scene: Scene, moment: str) -> None:
    stream = scene.agent.arun("go", stream=True)
    run_id = await reach(scene, moment, stream)
    del stream
    gc.collect()

    await scene.check(run_id, in_tool=moment == "work")


@moments
async def test_cancelling_by_the_api(scene: Scene, moment: str) -> None:
    async with scene.agent.stream("go") as stream:
        run_id = await reach(scene, moment, stream)
        stream.cancel("enough")
        rest = [event async for event in stream]
        response = await stream.result()

    assert response.status is RunStatus.CANCELLED and response.content == "Let me see"
    assert isinstance(rest[-1], RunCancelled) and rest[-1].content == "enough"
    await scene.check(run_id, in_tool=moment == "work")


async def test_closing_before_the_first_event(scene: Scene) -> None:
    stream = scene.agent.arun("go", stream=True, run_id="r")
    await stream.aclose()
    await only_this_task()

    assert await scene.storage.load_run("r") is None and scene.server.requests == []


@pytest.mark.parametrize("turns", range(6))
async def test_leaving_while_the_run_begins(scene: Scene, turns: int) -> None:
    async with scene.agent.stream("go", run_id="r"):
        for _ in range(turns):
            await asyncio.sleep(0)
    await only_this_task()

    stored = await scene.storage.load_run("r")
    assert stored is None or stored.status is RunStatus.CANCELLED
    if stored is not None:
        assert [m.content for m in stored.messages][:1] == ["go"]
    assert scene.server.open_connections == 0 or scene.server.connections == 1


async def test_leaving_the_sync_stream(scene: Scene) -> None:
    def consume() -> str:
        stream = scene.agent.run("go", stream=True)
        for event in stream:
            if event.event == "RunContent":
                stream.close()  # pyright: ignore[reportAttributeAccessIssue]  it is a generator
                return event.run_id
        raise AssertionError("there was no text")

    run_id = await asyncio.to_thread(consume)

    await scene.check(run_id, in_tool=False)


async def test_an_anthropic_stream_is_closed_too(server: Server) -> None:
    gate = server.gate()
    start = sse_events(
        {"type": "message_start", "message": {"content": [], "model": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me see"}},
    )
    server.add(body=[start, gate])
    agent = Agent(model=claude(server), session_id="s", add_history_to_messages=True)
    async with asyncio.timeout(10):
        async with agent.stream("go") as stream:
            async for event in stream:
                if event.event == "RunContent":
                    break
        await only_this_task()
        await server.until(lambda: server.interrupted == 1)
    add_claude(server, "plain", text_block("and on"))
    assert (await agent.arun("again")).content == "and on"
    check_claude(server.bodies[-1])


async def test_a_task_is_cancelled_for_its_own_reasons_and_hears_of_it(server: Server) -> None:
    server.add(body=[sse(chat_chunk({"content": "Let me see"}), done=False), server.gate()])
    agent = Agent(model=openai(server))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            async for _ in agent.arun("go", stream=True):
                pass
    await only_this_task()
    server.add(body=chat_stream("fine"))
    assert "fine" in [event.content async for event in agent.arun("again", stream=True) if event.event == "RunContent"]
