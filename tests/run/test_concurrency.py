"""Many runs on one session at once: nothing is lost, in one process and in several."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, tool
from agentrt.errors import SessionBusy
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.postgres import PostgresStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply
from tests.postgres_server import postgres_server
from tests.run.conftest import OpenStorage

pytestmark = pytest.mark.timeout(60)


def remembering(storage: Storage, **options: Any) -> Agent[Any]:
    """An agent whose run appends to a list and adds a key, pausing once on the way."""

    @tool(requires_confirmation=True)
    async def remember(tag: str, session_state: dict[str, Any]) -> str:
        session_state.setdefault("items", []).append(tag)
        session_state[f"key-{tag}"] = tag
        return tag

    def answer(request: Any) -> Any:
        last = request.messages[-1]
        return "ok" if last.role == "tool" else reply(tool_calls=[("remember", {"tag": last.content})])

    return Agent(model=FunctionModel(answer), tools=[remember], storage=storage, session_id="s", **options)


async def remember_all(storage: Storage, tags: list[str]) -> None:
    agent = remembering(storage)

    async def one(tag: str) -> None:
        paused = await agent.arun(tag)
        paused.tools_requiring_confirmation[0].confirmed = True
        await agent.acontinue_run(paused)

    await asyncio.gather(*map(one, tags))


def open_url(url: str) -> Storage:
    return PostgresStorage(db_url=url) if url.startswith("postgres") else SqliteStorage(db_file=url)


def in_a_process(url: str, tags: list[str]) -> None:
    asyncio.run(remember_all(open_url(url), tags))


async def check(storage: Storage, tags: list[str]) -> None:
    session = await storage.load_session("s")
    assert session is not None
    assert sorted(session.state["items"]) == sorted(tags)
    assert {key for key in session.state if key.startswith("key-")} == {f"key-{tag}" for tag in tags}
    assert len(await storage.list_runs("s", limit=1000)) == len(tags)
    await storage.aclose()


TAGS = [f"t{n}" for n in range(50)]


async def test_fifty_runs_in_one_process(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await remember_all(storage, TAGS)
    await check(storage, TAGS)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_fifty_runs_in_four_processes(kind: str, tmp_path: Path) -> None:
    url = str(tmp_path / "data.db") if kind == "sqlite" else postgres_server().new_database()
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=in_a_process, args=(url, TAGS[n::4])) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    asyncio.run(check(open_url(url), TAGS))


async def test_runs_that_wait_for_each_other_count_right(open_storage: OpenStorage) -> None:
    storage = open_storage()

    async def count(session_state: dict[str, Any]) -> str:
        before = session_state["n"]
        await asyncio.sleep(0)
        session_state["n"] = before + 1
        return "ok"

    def answer(request: Any) -> Any:
        return "ok" if request.messages[-1].role == "tool" else reply(tool_calls=[("count", {})])

    agent = Agent(
        model=FunctionModel(answer),
        tools=[count],
        storage=storage,
        session_id="s",
        session_state={"n": 0},
        session_concurrency="wait",
    )
    await asyncio.gather(*(agent.arun("go") for _ in range(50)))
    session = await storage.load_session("s")
    assert session is not None and session.state == {"n": 50}


async def test_a_session_that_is_busy_refuses() -> None:
    gate = Gate()
    storage = InMemoryStorage()
    first = Agent(model=ScriptedModel(reply("one", gate=gate)), storage=storage, session_id="s")
    other = Agent(model=ScriptedModel("two"), storage=storage, session_id="s", session_concurrency="refuse")
    running = asyncio.create_task(first.arun("go"))
    await gate.reached.wait()
    with pytest.raises(SessionBusy):
        await other.arun("go")
    gate.open()
    await running
    assert (await other.arun("go")).content == "two"


async def test_a_true_clash_goes_to_the_later_writer_and_is_told() -> None:
    gate = Gate()
    storage = InMemoryStorage()

    async def put(value: str, session_state: dict[str, Any]) -> str:
        session_state["color"] = value
        return "ok"

    def agent(*replies: Any) -> Agent[Any]:
        return Agent(model=ScriptedModel(*replies), tools=[put], storage=storage, session_id="s")

    async with agent(reply(tool_calls=[("put", {"value": "red"})]), reply("late", gate=gate)).stream(
        "go", stream_intermediate_steps=True
    ) as run:
        reading = asyncio.create_task(_all(run))
        await gate.reached.wait()
        await agent(reply(tool_calls=[("put", {"value": "blue"})]), "early").arun("go")
        gate.open()
        events = await reading
    conflict = next(event for event in events if event.event == "StateConflict")
    assert (conflict.content, conflict.mine, conflict.theirs) == ('session_state["color"]', "red", "blue")
    assert events[-1].response.session_state == {"color": "red"}


async def _all(run: Any) -> list[Any]:
    return [event async for event in run]


async def test_with_a_journal_of_runs_only_the_start_and_the_end_are_stored(tmp_path: Path) -> None:
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    agent = Agent(model=ScriptedModel("ok"), storage=storage, journal="run")
    response = await agent.arun("go")
    assert await storage.load_events(response.run_id or "") == []
    stored = await storage.load_run(response.run_id or "")
    assert stored is not None and stored.status == "COMPLETED"
    await storage.aclose()


async def test_a_run_inside_another_ones_turn_does_not_wait_for_it() -> None:
    storage = InMemoryStorage()
    inner = Agent(model=ScriptedModel("inner"), storage=storage, session_id="s", session_concurrency="wait")

    async def ask() -> str:
        return (await inner.arun("go")).content or ""

    model = ScriptedModel(reply(tool_calls=[("ask", {})]), "outer")
    outer = Agent(model=model, tools=[ask], storage=storage, session_id="s", session_concurrency="wait")
    async with asyncio.timeout(5):
        assert (await outer.arun("go")).content == "outer"
    assert model.last_request.messages[-1].content == "inner"
