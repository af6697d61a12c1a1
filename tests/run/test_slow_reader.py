"""A reader much slower than the model: memory stays flat, only deltas are joined, and nothing of the text is lost."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent
from agentrt.models.base import ModelDelta, ModelRequest
from agentrt.run.events import RunContent, RunEvent
from agentrt.runtime import Runtime
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, reply

DELTAS = 10_000
PACE = 200
"""So many deltas come for each event that the reader takes."""
HALF_GROWTH_BYTES = 700_000
"""What the second half of the stream may add: the run holds its text; its 5 000 events would be twice as much."""


class Pace:
    """Lets the reader take one event for every so many deltas, and all of the rest in the end."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(0)
        self.ended = False
        self.held: list[int] = []

    async def deltas(self) -> AsyncGenerator[ModelDelta | str, None]:
        for number in range(DELTAS):
            if number % PACE == 0:
                self.turn.release()
                await asyncio.sleep(0)
            if number in (DELTAS // 2, DELTAS - 1):
                gc.collect()
                self.held.append(tracemalloc.get_traced_memory()[0])
            yield f"w{number:05} "
        self.ended = True
        self.turn.release()

    async def read(self, events: AsyncIterator[RunEvent]) -> list[RunEvent]:
        seen: list[RunEvent] = []
        async for event in events:
            seen.append(event)
            if not self.ended:
                await self.turn.acquire()
        return seen


async def progress() -> AsyncGenerator[int, None]:
    for number in range(50):
        yield number


def agent(pace: Pace, storage: SqliteStorage) -> Agent[Any]:
    def answer(request: ModelRequest) -> Any:
        if request.messages[-1].role == "tool":
            return pace.deltas()
        return reply("first", tool_calls=[("progress", {})])

    return Agent(agent_id="a", model=FunctionModel(answer), tools=[progress], storage=storage)


def check(seen: list[RunEvent], pace: Pace) -> None:
    text = "".join(event.content for event in seen if isinstance(event, RunContent))
    assert text == "first" + "".join(f"w{number:05} " for number in range(DELTAS))
    facts = [event for event in seen if not event.is_delta]
    assert [event.seq for event in facts] == list(range(1, len(facts) + 1))
    assert [event.content for event in facts if event.event == "ToolCallProgress"] == list(range(50))
    assert facts[-1].event == "RunCompleted"
    assert len(seen) < DELTAS
    at_half, at_end = pace.held
    assert at_end - at_half < HALF_GROWTH_BYTES, (at_half, at_end)


async def streamed(pace: Pace, open_storage: Callable[[], SqliteStorage]) -> list[RunEvent]:
    async with agent(pace, open_storage()).stream("go", stream_intermediate_steps=True) as run:
        return await pace.read(run)


async def attached(pace: Pace, open_storage: Callable[[], SqliteStorage]) -> list[RunEvent]:
    handle = await agent(pace, open_storage()).start("go")
    return await pace.read(handle.events())


async def attached_elsewhere(pace: Pace, open_storage: Callable[[], SqliteStorage]) -> list[RunEvent]:
    """By a storage of its own, from a thread with a loop of its own, as another process does."""
    handle = await agent(pace, open_storage()).start("go")
    reader = await asyncio.to_thread(asyncio.run, _read_all(open_storage, handle.run_id))
    await handle.result()
    return reader


async def _read_all(open_storage: Callable[[], SqliteStorage], run_id: str) -> list[RunEvent]:
    storage = open_storage()
    events = [event async for event in Runtime(storage=storage).attach(run_id)]
    await storage.aclose()
    return events


@pytest.mark.parametrize("way", [streamed, attached, attached_elsewhere])
async def test_a_reader_much_slower_than_the_model(way: Any, tmp_path: Path) -> None:
    opened: list[SqliteStorage] = []

    def open_storage() -> SqliteStorage:
        opened.append(SqliteStorage(db_file=tmp_path / "data.db"))
        return opened[-1]

    pace = Pace()
    tracemalloc.start()
    try:
        async with asyncio.timeout(40):
            seen = await way(pace, open_storage)
    finally:
        tracemalloc.stop()
    check(seen, pace)
    for storage in opened:
        await storage.aclose()
