from __future__ import annotations

from agentrt.run.response import RunStatus
from agentrt.storage.base import RunChange, StateChange, StoredRun
from agentrt.storage.in_memory import InMemoryStorage


async def begin(storage: InMemoryStorage, session_id: str, status: RunStatus = RunStatus.COMPLETED) -> None:
    await storage.begin(StoredRun(run_id=f"run of {session_id}", session_id=session_id))
    await storage.commit(RunChange(run_id=f"run of {session_id}", session_id=session_id, status=status))


async def test_the_session_not_used_for_longest_makes_room_for_a_new_one():
    storage = InMemoryStorage(max_sessions=2)
    await begin(storage, "a")
    await begin(storage, "b")
    await storage.begin(StoredRun(run_id="again", session_id="a"))
    await storage.commit(RunChange(run_id="again", session_id="a", status=RunStatus.COMPLETED))

    await begin(storage, "c")

    assert await storage.load_session("b") is None
    assert await storage.load_run("run of b") is None
    assert {session.session_id for session in await storage.list_sessions()} == {"a", "c"}


async def test_a_session_whose_run_is_under_way_is_never_dropped():
    storage = InMemoryStorage(max_sessions=1)
    await storage.begin(StoredRun(run_id="long", session_id="a"))

    await begin(storage, "b")
    await begin(storage, "c")
    await storage.commit(RunChange(run_id="long", session_id="a", status=RunStatus.COMPLETED))

    assert await storage.load_session("a") is not None
    assert await storage.load_session("b") is None


async def test_any_object_in_the_state_is_held_by_reference():
    storage, thing = InMemoryStorage(), object()
    await storage.begin(StoredRun(run_id="r", session_id="s"))
    await storage.commit(RunChange(run_id="r", session_id="s", state=StateChange(base={}, mine={"things": [thing]})))

    session = await storage.load_session("s")

    assert session is not None
    assert session.state["things"][0] is thing
