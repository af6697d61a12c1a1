"""What is stored, listed, read, renamed, exported and deleted by those whom it belongs to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunStatus
from agentrt.errors import RunNotFound, SessionAccessDenied, SessionNotFound
from agentrt.run.events import RunCompleted, RunStarted
from agentrt.sessions import Sessions
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    """Ann has two sessions, one of two runs; Bob has one; one is nobody's."""
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    agent: Agent[Any] = Agent(agent_id="a", model=FunctionModel(lambda request: "ok"), storage=storage)
    for user, session, run, text in [
        ("ann", "s1", "r1", "one"),
        ("ann", "s1", "r2", "two"),
        ("ann", "s2", "r3", "three"),
        ("bob", "s3", "r4", "four"),
        (None, "s4", "r5", "five"),
    ]:
        await agent.arun(text, user_id=user, session_id=session, run_id=run, session_state={"last": text})
    yield storage
    await storage.aclose()


@pytest.fixture
def ann(storage: SqliteStorage) -> Sessions:
    return Sessions(storage).of_user("ann")


async def test_sessions_are_listed_by_user_and_agent_page_by_page_the_last_used_first(ann: Sessions) -> None:
    assert [s.session_id for s in await ann.alist()] == ["s2", "s1"]
    assert [s.session_id for s in await ann.alist(limit=1, offset=1)] == ["s1"]
    assert [s.session_id for s in await ann.alist(agent_id="a")] == ["s2", "s1"]
    assert await ann.alist(agent_id="other") == []


async def test_listing_without_a_user_is_refused_unless_all_may_be_seen(storage: SqliteStorage) -> None:
    with pytest.raises(SessionAccessDenied):
        await Sessions(storage).alist()
    assert len(await Sessions(storage, any_user=True).alist()) == 4


async def test_a_session_is_read_renamed_and_given_another_state(ann: Sessions) -> None:
    assert (await ann.aget("s1")).state == {"last": "two"}
    await ann.arename("s1", "Shopping")
    await ann.areplace_state("s1", {"fresh": True})
    session = await ann.aget("s1")
    assert (session.name, session.state) == ("Shopping", {"fresh": True})


async def test_runs_messages_and_events_are_read(ann: Sessions) -> None:
    assert [run.run_id for run in await ann.aruns("s1")] == ["r2", "r1"]
    assert [run.run_id for run in await ann.aruns("s1", before=2)] == ["r1"]
    assert [m.content for m in await ann.amessages("s1")] == ["one", "ok", "two", "ok"]
    assert [m.content for m in await ann.amessages("s1", runs=1)] == ["two", "ok"]
    run = await ann.aget_run("r1")
    assert (run.status, run.content, run.agent_id) == (RunStatus.COMPLETED, "ok", "a")
    events = await ann.aevents("r1")
    assert isinstance(events[0], RunStarted) and isinstance(events[-1], RunCompleted)
    assert [event.seq for event in await ann.aevents("r1", after=2)] == list(range(3, len(events) + 1))


async def test_an_export_holds_the_session_its_state_its_runs_and_messages(ann: Sessions) -> None:
    exported = json.loads(await ann.aexport("s1"))
    assert exported["session"]["session_id"] == "s1" and exported["session"]["state"] == {"last": "two"}
    assert [run["run_id"] for run in exported["runs"]] == ["r1", "r2"]
    assert [m["content"] for run in exported["runs"] for m in run["messages"]] == ["one", "ok", "two", "ok"]


async def test_deleting_takes_all_that_hangs_on_it_and_nothing_else(ann: Sessions, storage: SqliteStorage) -> None:
    await ann.adelete("s1")
    with pytest.raises(SessionNotFound):
        await ann.aget("s1")
    with pytest.raises(RunNotFound):
        await ann.aget_run("r1")
    assert await storage.load_events("r1") == []
    assert [s.session_id for s in await ann.alist()] == ["s2"]
    assert await storage.load_run("r4") is not None


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("aget", ("s3",)),
        ("arename", ("s3", "x")),
        ("areplace_state", ("s3", {})),
        ("adelete", ("s3",)),
        ("amessages", ("s3",)),
        ("aruns", ("s3",)),
        ("aexport", ("s3",)),
        ("aget_run", ("r4",)),
        ("aevents", ("r4",)),
    ],
)
async def test_what_is_another_users_is_refused_and_left_as_it_is(
    ann: Sessions, storage: SqliteStorage, method: str, args: tuple[Any, ...]
) -> None:
    before = await storage.load_session("s3")
    for sessions in (ann, Sessions(storage)):
        with pytest.raises(SessionAccessDenied):
            await getattr(sessions, method)(*args)
    assert await storage.load_session("s3") == before


async def test_identifiers_are_data(ann: Sessions, storage: SqliteStorage) -> None:
    for name in ["s1' OR '1'='1", "../../etc/passwd", 's1"; DROP TABLE agent_sessions; --', "s1\x00"]:
        with pytest.raises(SessionNotFound):
            await ann.aget(name)
    assert len(await ann.alist()) == 2


async def test_each_method_has_its_sync_twin(ann: Sessions) -> None:
    def sync() -> None:
        ann.rename("s1", "Shopping")
        ann.replace_state("s1", {"k": 1})
        session = ann.get("s1")
        assert (session.name, session.state) == ("Shopping", {"k": 1})
        assert [s.session_id for s in ann.list(limit=1)] == [ann.list()[0].session_id]
        assert [run.run_id for run in ann.runs("s1")] == ["r2", "r1"]
        assert len(ann.messages("s1")) == 4
        assert ann.get_run("r1").content == "ok"
        assert ann.events("r1")[0].event == "RunStarted"
        assert json.loads(ann.export("s1"))["session"]["name"] == "Shopping"
        ann.delete("s1")
        with pytest.raises(SessionNotFound):
            ann.get("s1")

    await asyncio.to_thread(sync)


async def test_an_agent_shows_its_own_users_sessions(storage: SqliteStorage) -> None:
    agent: Agent[Any] = Agent(model=FunctionModel(lambda request: "ok"), storage=storage, user_id="bob")
    assert [s.session_id for s in await agent.sessions.alist()] == ["s3"]
