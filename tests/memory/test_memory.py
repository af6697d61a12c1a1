"""`Memory` by itself: its methods, sync and async, and what becomes of updates where loops and processes end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent
from agentrt.errors import ConfigurationError, MemoryNotFound
from agentrt.memory.base import UserMemory
from agentrt.memory.db.sqlite import SqliteMemoryDb
from agentrt.memory.memory import Memory
from agentrt.run.response import RunStatus
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import Gate, ScriptedModel, reply
from tests.memory.kit import echo, note_all

# --- methods ---------------------------------------------------------------------------------------------------------


def test_memories_from_code_that_is_not_async(tmp_path: Path):
    memory = Memory(db=SqliteMemoryDb(table_name="user_memories", db_file=tmp_path / "memory.db"))
    tea = memory.add_user_memory(UserMemory("Likes tea", topics=["drink"]), user_id="ann")
    memory.add_user_memory("Skis", user_id="ann")
    memory.add_user_memory("Skis", user_id="bob")
    assert memory.get_user_memory(tea, user_id="ann").topics == ["drink"]
    assert memory.replace_user_memory(tea, "Likes mint tea", user_id="ann") == tea
    assert [known.memory for known in memory.get_user_memories(user_id="ann")] == ["Likes mint tea", "Skis"]
    assert [known.memory for known in memory.search_user_memories("tea", user_id="ann")] == ["Likes mint tea"]
    memory.delete_user_memory(tea, user_id="ann")
    assert len(memory.get_user_memories(user_id="ann")) == 1
    memory.clear(user_id="ann")
    assert memory.get_user_memories(user_id="ann") == []
    assert len(memory.get_user_memories(user_id="bob")) == 1
    memory.clear()
    assert memory.get_user_memories(user_id="bob") == []
    assert memory.get_session_summary(session_id="s", user_id="ann") is None


async def test_what_a_user_does_not_have_is_an_error():
    memory = Memory()
    theirs = await memory.aadd_user_memory("Skis", user_id="bob")
    for memory_id in (theirs, "12"):
        with pytest.raises(MemoryNotFound, match=memory_id):
            await memory.aget_user_memory(memory_id, user_id="ann")
        with pytest.raises(MemoryNotFound, match=memory_id):
            await memory.areplace_user_memory(memory_id, "Hates skis", user_id="ann")
        with pytest.raises(MemoryNotFound, match=memory_id):
            await memory.adelete_user_memory(memory_id, user_id="ann")


async def test_memories_of_nobody_and_memories_of_nothing_are_errors():
    memory = Memory()
    with pytest.raises(ConfigurationError, match="give user_id"):
        await memory.aget_user_memories()
    with pytest.raises(ConfigurationError, match="give user_id"):
        await memory.aadd_user_memory("Skis", user_id="")
    with pytest.raises(ConfigurationError, match="can't be empty"):
        await memory.aadd_user_memory("  ", user_id="ann")


def test_what_is_no_database_or_no_memory_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"db is a database of memories, as SqliteMemoryDb.*, not S"):
        Memory(db=SqliteStorage(db_file=":memory:"))  # pyright: ignore[reportArgumentType]  as users do
    db: Any = SqliteMemoryDb(db_file=":memory:")
    with pytest.raises(ConfigurationError, match=r"memory is a Memory, as Memory\(db=…\), not SqliteMemoryDb"):
        Agent(model=echo(), memory=db, enable_user_memories=True).run("Hello", user_id="ann")


def test_a_sync_run_leaves_an_update_that_a_sync_read_waits_for():
    memory = Memory(model=note_all())
    agent = Agent(model=echo(), memory=memory, enable_user_memories=True)
    for n in range(2):
        agent.run(f"I ski {n}", user_id="ann")
        assert memory.get_user_memories(user_id="ann")[0].memory == f"I ski {n}"


# --- where a loop ends -----------------------------------------------------------------------------------------------


def test_an_update_goes_on_when_the_loop_of_its_run_has_ended(tmp_path: Path):
    held = Gate()
    model = ScriptedModel(
        reply(tool_calls=[("add_memory", {"memory": "Never"})], gate=held),
        reply(tool_calls=[("add_memory", {"memory": "Ann skis"})]),
        "Done.",
    )
    memory = Memory(model=model, db=SqliteMemoryDb(db_file=tmp_path / "memory.db"))
    agent = Agent(model=echo(), memory=memory, enable_user_memories=True)

    async def main() -> None:
        await agent.arun("I ski", user_id="ann")
        await held.reached.wait()

    asyncio.run(main())
    assert [known.memory for known in memory.get_user_memories(user_id="ann")] == ["Ann skis"]


async def test_closing_an_agent_waits_for_its_updates(tmp_path: Path):
    db = SqliteMemoryDb(db_file=tmp_path / "memory.db")
    agent = Agent(
        model=echo(),
        memory=Memory(model=note_all(), db=db),
        storage=SqliteStorage(db_file=tmp_path / "data.db"),
        enable_user_memories=True,
    )
    await agent.arun("I ski", user_id="ann")
    await agent.aclose()
    assert [known.memory for known in await db.list_memories("ann")] == ["I ski"]
    await db.aclose()


# --- where a process ends --------------------------------------------------------------------------------------------

_PROGRAM = """
import asyncio, os
from agentrt import Agent
from agentrt.memory.db.sqlite import SqliteMemoryDb
from agentrt.memory.memory import Memory
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import Gate, FunctionModel, reply
from tests.memory.kit import echo, note_all

slow = note_all()
inner = slow._function
async def answer(request):
    await asyncio.sleep({delay})
    return inner(request)
memory = Memory(model=FunctionModel(answer), db=SqliteMemoryDb(db_file="memory.db"))
agent = Agent(model=echo(), memory=memory, enable_user_memories=True, enable_session_summaries=True, session_id="s",
              storage=SqliteStorage(db_file="runs.db"))
"""
_ENDS = {
    "sync": 'agent.run("I ski", user_id="ann")',
    "stream": 'list(agent.run("I ski", stream=True, user_id="ann"))',
    "async": 'asyncio.run(agent.arun("I ski", user_id="ann"))',
    "sync, briefly": 'import agentrt._sync as s; s.FINISH_S = 0.2; agent.run("I ski", user_id="ann")',
    "async, briefly": 'import agentrt._sync as s; s.FINISH_S = 0.2; asyncio.run(agent.arun("I ski", user_id="ann"))',
    "killed": 'agent.run("I ski", user_id="ann"); os.kill(os.getpid(), 9)',
}


def run_program(how: str, folder: Path, delay: float) -> int:
    script = _PROGRAM.format(delay=delay) + _ENDS[how]
    env = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
    return done.returncode


@pytest.mark.parametrize("how", ["sync", "stream", "async"])
async def test_the_end_of_a_process_waits_for_its_updates(how: str, tmp_path: Path):
    assert await asyncio.to_thread(run_program, how, tmp_path, 0.1) == 0
    db = SqliteMemoryDb(db_file=tmp_path / "memory.db")
    assert [known.memory for known in await db.list_memories("ann")] == ["I ski"]
    assert await db.load_summary("s", "ann") is not None
    await db.aclose()


@pytest.mark.parametrize("how", ["sync, briefly", "async, briefly"])
async def test_an_update_that_never_ends_does_not_keep_a_process_alive(how: str, tmp_path: Path):
    assert await asyncio.to_thread(run_program, how, tmp_path, 1000) == 0
    memory = Memory(model=note_all(), db=SqliteMemoryDb(db_file=tmp_path / "memory.db"))
    assert [known.memory for known in await memory.aget_user_memories("ann")] == ["I ski"]
    await memory.aclose()


async def test_what_a_killed_process_left_is_taken_in_by_whoever_reads_next(tmp_path: Path):
    assert await asyncio.to_thread(run_program, "killed", tmp_path, 10) == -9
    model = note_all()
    memory = Memory(model=model, db=SqliteMemoryDb(db_file=tmp_path / "memory.db"))
    async with asyncio.timeout(5):
        assert [known.memory for known in await memory.aget_user_memories("ann")] == ["I ski"]
        assert await memory.aget_session_summary("s", "ann") is not None
    await memory.aclose()


async def test_what_a_killed_process_left_is_known_to_the_users_next_run(tmp_path: Path):
    assert await asyncio.to_thread(run_program, "killed", tmp_path, 10) == -9
    model = echo()
    memory = Memory(model=note_all(), db=SqliteMemoryDb(db_file=tmp_path / "memory.db"))
    agent = Agent(
        model=model,
        memory=memory,
        enable_user_memories=True,
        enable_session_summaries=True,
        storage=SqliteStorage(db_file=tmp_path / "runs.db"),
    )
    async with asyncio.timeout(5):
        await agent.arun("Hello", user_id="ann", session_id="s")
    assert "I ski" in (model.last_request.messages[0].content or "")
    _, killed = await agent.sessions.of_user("ann").aruns("s")
    assert [update.status for update in killed.memory_updates] == [RunStatus.COMPLETED] * 2
    await agent.aclose()


async def test_reading_does_not_wait_for_what_nobody_here_can_do(tmp_path: Path):
    assert await asyncio.to_thread(run_program, "killed", tmp_path, 10) == -9
    memory = Memory(db=SqliteMemoryDb(db_file=tmp_path / "memory.db"))  # no model, and no agent's
    async with asyncio.timeout(5):
        assert await memory.aget_user_memories("ann") == []
    await memory.aclose()
