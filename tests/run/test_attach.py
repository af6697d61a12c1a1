"""Reading a run that goes on without its reader: no gap, no repetition, from wherever one had read to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentrt import Agent, RunStatus, tool
from agentrt.errors import RunNotFound, SessionAccessDenied
from agentrt.run.attach import parse_cursor
from agentrt.run.events import OutputPartial, RunCancelled, RunCompleted, RunContent, RunEvent, RunPaused
from agentrt.runtime import Runtime
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import Gate, ScriptedModel, reply
from tests.run.conftest import OpenStorage

pytestmark = pytest.mark.timeout(20)


def text_of(events: list[RunEvent]) -> str:
    return "".join(event.content for event in events if isinstance(event, RunContent))


async def read(events: AsyncIterator[RunEvent]) -> list[RunEvent]:
    return [event async for event in events]


def add(a: int, b: int) -> int:
    return a + b


def scripted(gate: Gate | None = None) -> ScriptedModel:
    words = " ".join(f"w{n}" for n in range(200))
    call = reply("first", tool_calls=[("add", {"a": 1, "b": 2})])
    return ScriptedModel(call, reply(words, gate=gate, gate_after=100))


async def test_a_handle_gives_all_events_from_the_start_also_after_the_end(open_storage: OpenStorage) -> None:
    storage = open_storage()
    agent = Agent(model=scripted(), tools=[add], storage=storage)
    handle = await agent.start("go")
    response = await handle.result()
    events = await read(handle.events())
    facts = [event.seq for event in events if not event.is_delta]
    assert facts == list(range(1, len(facts) + 1))
    assert text_of(events) == "first" + (response.content or "")
    last = events[-1]
    assert isinstance(last, RunCompleted) and last.response.content == response.content


async def test_a_reader_that_left_in_the_middle_misses_and_repeats_nothing(open_storage: OpenStorage) -> None:
    storage, elsewhere = open_storage(), open_storage()
    gate = Gate()
    agent = Agent(name="a", model=scripted(gate), tools=[add], storage=storage)
    runtime = Runtime(agents=[agent], storage=elsewhere)
    handle = await agent.start("go")
    await gate.reached.wait()
    seen: list[RunEvent] = []
    async for event in handle.events():
        seen.append(event)
        if "w50 " in text_of(seen):
            break
    read_up_to = seen[-1].cursor
    rest = asyncio.create_task(read(runtime.attach(handle.run_id, after=read_up_to)))
    gate.open()
    later = await rest
    assert text_of(seen) + text_of(later) == "first" + " ".join(f"w{n}" for n in range(200))
    facts = [event.seq for event in [*seen, *later] if not event.is_delta]
    assert facts == list(range(1, len(facts) + 1))


async def test_a_cursor_in_the_middle_of_a_joined_delta_gives_the_rest_of_it(open_storage: OpenStorage) -> None:
    storage = open_storage()
    handle = await Agent(model=ScriptedModel("one two three"), storage=storage).start("go")
    await handle.result()
    whole = await read(handle.events())
    first = next(event for event in whole if isinstance(event, RunContent))
    later = await read(handle.events(after=f"{first.seq}:5"))
    assert text_of(later) == "wo three"


async def test_every_reader_gets_all_of_it(open_storage: OpenStorage) -> None:
    storage = open_storage()
    gate = Gate()
    handle = await Agent(model=scripted(gate), tools=[add], storage=storage).start("go")
    readers = [asyncio.create_task(read(handle.events())) for _ in range(5)]
    await gate.reached.wait()
    gate.open()
    texts = [text_of(await reader) for reader in readers]
    assert texts == ["first" + " ".join(f"w{n}" for n in range(200))] * 5


async def test_a_reader_that_goes_away_does_not_stop_the_run(open_storage: OpenStorage) -> None:
    storage = open_storage()
    gate = Gate()
    handle = await Agent(model=scripted(gate), tools=[add], storage=storage).start("go")
    reader = asyncio.create_task(read(handle.events()))
    await gate.reached.wait()
    reader.cancel()
    gate.open()
    assert (await handle.result()).status is RunStatus.COMPLETED


async def test_a_pause_ends_the_stream_and_attach_may_wait_through_it(open_storage: OpenStorage) -> None:
    @tool(requires_confirmation=True)
    def drop() -> str:
        return "dropped"

    storage = open_storage()
    agent = Agent(model=ScriptedModel(reply(tool_calls=[("drop", {})]), "done"), tools=[drop], storage=storage)
    handle = await agent.start("go")
    through = asyncio.create_task(read(agent.attach(handle.run_id, through_pauses=True)))
    until = await read(handle.events())
    assert isinstance(until[-1], RunPaused)
    paused = await handle.result()
    paused.tools_requiring_confirmation[0].confirmed = True
    await agent.acontinue_run(paused)
    names = [event.event for event in await through]
    assert names.count("RunPaused") == names.count("RunContinued") == names.count("RunCompleted") == 1


async def test_a_run_is_cancelled_from_elsewhere(tmp_path: Path) -> None:
    here, there = SqliteStorage(db_file=tmp_path / "data.db"), SqliteStorage(db_file=tmp_path / "data.db")
    gate = Gate()
    handle = await Agent(model=scripted(gate), tools=[add], storage=here).start("go")
    await gate.reached.wait()
    assert await there.request_cancel(handle.run_id, "now:enough")
    response = await handle.result()
    assert response.status is RunStatus.CANCELLED
    last = (await read(handle.events()))[-1]
    assert isinstance(last, RunCancelled) and last.content == "enough"
    await here.aclose()
    await there.aclose()


async def test_an_unknown_run_and_another_users_run_are_refused(open_storage: OpenStorage) -> None:
    storage = open_storage()
    agent = Agent(model=ScriptedModel("x"), storage=storage)
    handle = await agent.start("go", user_id="ann")
    await handle.result()
    with pytest.raises(RunNotFound):
        await read(agent.attach("nope"))
    with pytest.raises(SessionAccessDenied):
        await read(agent.attach(handle.run_id, user_id="bob"))
    with pytest.raises(ValueError, match="cursor"):
        await read(agent.attach(handle.run_id, user_id="ann", after="12"))


async def test_a_reader_that_comes_after_a_pause_reads_to_the_end(open_storage: OpenStorage) -> None:
    @tool(requires_confirmation=True)
    def drop() -> str:
        return "dropped"

    agent = Agent(model=ScriptedModel(reply(tool_calls=[("drop", {})]), "done"), tools=[drop], storage=open_storage())
    handle = await agent.start("go")
    paused = await handle.result()
    paused.requirements[0].confirm()
    await agent.acontinue_run(paused)
    names = [event.event for event in await read(agent.attach(handle.run_id))]
    assert "RunPaused" in names and names[-1] == "RunCompleted"


async def test_a_cursor_whose_events_are_pruned_gets_the_whole_response(open_storage: OpenStorage) -> None:
    storage = open_storage()
    agent = Agent(model=ScriptedModel("one two three"), storage=storage)
    handle = await agent.start("go")
    async for event in handle.events():
        if isinstance(event, RunContent):
            break
    await handle.result()
    assert await storage.prune(older_than=timedelta(0)) > 0
    (last,) = await read(agent.attach(handle.run_id, after=event.cursor))
    assert isinstance(last, RunCompleted)
    assert last.response.content == "one two three" and last.response.status is RunStatus.COMPLETED


# --- typed answers ---------------------------------------------------------------------------------------------------


class Line(BaseModel):
    words: str
    number: int


class Poem(BaseModel):
    title: str
    lines: list[Line]


POEM = Poem(title="Tides", lines=[Line(words="in and out", number=n) for n in range(30)])


def poet(gate: Gate | None = None) -> ScriptedModel:
    prose = "Here it is:\n" + POEM.model_dump_json() + "\nDo you like it?"
    call = reply("Let me see.", tool_calls=[("add", {"a": 1, "b": 2})])
    return ScriptedModel(call, reply(prose, gate=gate, gate_after=40))


def parts_of(events: Iterable[RunEvent]) -> list[tuple[Any, Any]]:
    return [(part.path, part.value) for event in events if isinstance(event, OutputPartial) for part in event.parts]


EXPECTED = [(("title",), "Tides"), *((("lines", n), line) for n, line in enumerate(POEM.lines))]


async def test_a_reader_from_afar_is_told_the_parts_of_a_typed_answer(open_storage: OpenStorage) -> None:
    agent = Agent(name="a", model=poet(), tools=[add], storage=open_storage(), response_model=Poem)
    handle = await agent.start("go")
    await handle.result()

    for events in (
        await read(handle.events()),
        await read(agent.attach(handle.run_id)),
        await read(Runtime(agents=[agent], storage=open_storage()).attach(handle.run_id)),
    ):
        partials = [event for event in events if isinstance(event, OutputPartial)]
        assert parts_of(events) == EXPECTED
        assert partials[-1].value == {"title": "Tides", "lines": POEM.lines}
        assert [event.cursor for event in events] == sorted((event.cursor for event in events), key=parse_cursor)


async def test_a_reader_that_comes_in_the_middle_is_told_the_whole_from_the_start(open_storage: OpenStorage) -> None:
    gate = Gate()
    agent = Agent(name="a", model=poet(gate), tools=[add], storage=open_storage(), response_model=Poem)
    handle = await agent.start("go")
    await gate.reached.wait()
    runtime = Runtime(agents=[agent], storage=open_storage())
    readers = [asyncio.create_task(read(events)) for events in (handle.events(), runtime.attach(handle.run_id))]
    await asyncio.sleep(0)
    gate.open()

    for reader in readers:
        assert parts_of(await reader) == EXPECTED


async def test_a_reader_that_comes_back_is_told_each_part_once(open_storage: OpenStorage) -> None:
    agent = Agent(name="a", model=poet(), tools=[add], storage=open_storage(), response_model=Poem)
    handle = await agent.start("go")
    await handle.result()
    whole = await read(handle.events())

    for at in range(0, len(whole) - 1, 3):
        rest = await read(handle.events(after=whole[at].cursor))
        assert text_of(whole[: at + 1]) + text_of(rest) == text_of(whole)
        seen = parts_of(whole[: at + 1])
        missed = [part for part in EXPECTED if part not in seen]
        assert [part for part in parts_of(rest) if part not in seen] == missed


async def test_the_type_given_to_one_run_is_the_type_of_its_partials(open_storage: OpenStorage) -> None:
    gate = Gate()
    agent = Agent(model=poet(gate), tools=[add], storage=open_storage())
    handle = await agent.start("go", response_model=Poem)
    reader = asyncio.create_task(read(handle.events()))
    await gate.reached.wait()
    gate.open()
    assert parts_of(await reader) == EXPECTED
