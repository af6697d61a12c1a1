"""Our own memory databases keep the contract that we publish, and what each does besides."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrt.errors import ConfigurationError, StorageError
from agentrt.memory.base import UserMemory
from agentrt.memory.db.postgres import PostgresMemoryDb
from agentrt.memory.db.sqlite import SqliteMemoryDb
from agentrt.storage.base import StoredRun
from agentrt.storage.postgres import PostgresStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing.memory_contracts import MemoryCheck, OpenMemoryDb, memory_checks
from tests.postgres_server import postgres_server


@pytest.mark.parametrize("check", memory_checks, ids=lambda check: check.__name__)
async def test_a_database_keeps_the_contract(check: MemoryCheck, open_db: OpenMemoryDb):
    await check(open_db)


async def test_memories_and_sessions_share_a_file(tmp_path: Path):
    file = tmp_path / "agent.db"
    storage = SqliteStorage(table_name="agent_sessions", db_file=file)
    db = SqliteMemoryDb(table_name="user_memories", db_file=file)
    await storage.begin(StoredRun(run_id="r", session_id="s"))
    await db.add_memory("ann", UserMemory("Likes tea"))
    assert len(await db.list_memories("ann")) == 1
    assert await storage.load_run("r") is not None
    await storage.aclose()
    await db.aclose()


@pytest.fixture
def url() -> str:
    return postgres_server().new_database()


async def test_memories_and_sessions_share_a_postgres_database(url: str):
    storage, db = PostgresStorage(db_url=url), PostgresMemoryDb(db_url=url)
    await storage.begin(StoredRun(run_id="r", session_id="s"))
    await db.add_memory("ann", UserMemory("Likes tea"))
    assert await storage.load_run("r") is not None
    await storage.aclose()
    await db.aclose()


async def test_a_table_of_sessions_is_not_taken_for_one_of_memories(tmp_path: Path):
    storage = SqliteStorage(table_name="same", db_file=tmp_path / "data.db")
    await storage.begin(StoredRun(run_id="r", session_id="s"))
    db = SqliteMemoryDb(table_name="same", db_file=tmp_path / "data.db")
    with pytest.raises(StorageError, match="choose another table_name"):
        await db.list_memories("ann")
    await storage.aclose()
    await db.aclose()


def test_a_database_without_a_place_says_what_it_takes():
    with pytest.raises(ConfigurationError, match="SqliteMemoryDb takes db_file"):
        SqliteMemoryDb(table_name="memory")
    with pytest.raises(ConfigurationError, match="PostgresMemoryDb takes db_url"):
        PostgresMemoryDb(table_name="memory")
